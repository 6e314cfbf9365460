#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "median.h"
#include "ops/cuda/device.h"
#include "tensor/upload.h"

// How fast weights come from a mapped file to the GPU, once its pages are in memory: by the driver alone, and
// by threads through pinned memory (tensor/upload.h). A file of 4 GiB is made in the given folder, mapped
// anew for each round, so that every page is a fault as it is for a checkpoint, and removed.
//   upload_bench [FOLDER]
namespace sluice::bench {
namespace {

constexpr int64_t kBytes = int64_t{4} << 30;
constexpr int64_t kMatrix = int64_t{14} << 20;  // about an expert's gate_proj in FP8
constexpr int kRounds = 3;

class SampleFile {
 public:
  explicit SampleFile(const std::filesystem::path& folder) : path_(folder / "upload_bench.bin") {
    descriptor_ = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    SLUICE_CHECK(descriptor_ >= 0, "{} cannot be made", path_.string());
    std::vector<char> piece(size_t{16} << 20);
    for (size_t i = 0; i < piece.size(); ++i) piece[i] = static_cast<char>(i * 2654435761U >> 13);
    for (int64_t done = 0; done < kBytes; done += std::ssize(piece)) {
      SLUICE_CHECK(write(descriptor_, piece.data(), piece.size()) == std::ssize(piece),
                   "{} cannot be written", path_.string());
    }
  }
  ~SampleFile() {
    close(descriptor_);
    std::filesystem::remove(path_);
  }
  SampleFile(const SampleFile&) = delete;
  SampleFile& operator=(const SampleFile&) = delete;

  // Seconds that `bring` takes for all matrices of a new mapping.
  double Seconds(const std::function<void(const std::byte* from, int64_t at, int64_t bytes)>& bring) const {
    void* data = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, descriptor_, 0);
    SLUICE_CHECK(data != MAP_FAILED, "{} cannot be mapped", path_.string());
    const int64_t begin = NowNs();
    for (int64_t at = 0; at < kBytes; at += kMatrix) {
      bring(static_cast<const std::byte*>(data) + at, at, std::min(kMatrix, kBytes - at));
    }
    const double seconds = static_cast<double>(NowNs() - begin) * 1e-9;
    munmap(data, kBytes);
    return seconds;
  }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

void Measure(const std::filesystem::path& folder) {
  using namespace ops::cuda;
  Memory& memory = DeviceMemory(0);
  const SampleFile file(folder);
  const Buffer target(kBytes, memory);
  fmt::print("| way | GB/s |\n| --- | ---: |\n");
  const auto report = [&](const std::string& way, const auto& bring) {
    std::vector<double> seconds;
    for (int round = 0; round < kRounds; ++round) seconds.push_back(file.Seconds(bring));
    fmt::print("| {} | {:.1f} |\n", way, static_cast<double>(kBytes) * 1e-9 / Median(seconds));
    std::fflush(stdout);
  };
  report("the driver alone", [&](const std::byte* from, int64_t at, int64_t bytes) {
    memory.Copy(from, target.data() + at, bytes);
  });
  for (const int threads : {1, 2, 4, 8, 16}) {
    Upload upload(memory, threads);
    report(fmt::format("{} threads", threads), [&](const std::byte* from, int64_t at, int64_t bytes) {
      const Upload::Span span{from, target.data() + at, bytes};
      upload.Copy({&span, 1});
    });
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  try {
    sluice::bench::Measure(argc > 1 ? argv[1] : "/tmp");
  } catch (const sluice::Error& error) {
    fmt::print(stderr, "upload_bench: {}\n", error.what());
    return 1;
  }
}
