#include "checkpoint/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"

namespace sluice::checkpoint {
namespace {

class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path)
      : path_(path), file_(std::fopen(path.c_str(), "wbx")) {
    if (!file_) FailWriting();
  }
  void Write(std::span<const std::byte> bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) FailWriting();
  }
  // Writing is complete only when this returns: the last bytes may meet a full disk here.
  void Close() {
    if (std::fclose(file_.release()) != 0) FailWriting();
  }

 private:
  [[noreturn]] void FailWriting() const {
    Fail(ErrorKind::kModelFiles, "{} cannot be written: {}.", path_.string(), std::strerror(errno));
  }
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, CloseFile> file_;
};

// The order of the dtypes in the safetensors library, widest first, which also keeps tensors aligned.
int DTypeOrder(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kBF16:
      return 1;
    case DType::kF16:
      return 2;
    case DType::kF8E4M3:
      return 3;
    case DType::kI32:
    case DType::kU8:
      break;
  }
  Fail(ErrorKind::kInternal, "No checkpoint tensor is {}.", NameOf(dtype));
}

std::string HeaderOf(std::span<const TensorToWrite> tensors) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    nlohmann::ordered_json entry;
    entry["dtype"] = NameOf(tensor.dtype);
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {offset, offset + tensor.bytes()};
    header.emplace(tensor.name, std::move(entry));
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

int64_t TensorToWrite::bytes() const {
  int64_t product = SizeOf(dtype);
  for (const int64_t extent : shape) product *= extent;
  return product;
}

void WriteSafetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                      const LoadProgress& progress) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return std::tuple(DTypeOrder(a.dtype), a.name) < std::tuple(DTypeOrder(b.dtype), b.name);
  });
  int64_t total = 0;
  for (const TensorToWrite& tensor : tensors) total += tensor.bytes();

  const std::string header = HeaderOf(tensors);
  std::array<std::byte, 8> length{};
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>(header.size() >> (8 * i));
  OutputFile file(path);
  file.Write(length);
  file.Write(std::as_bytes(std::span(header)));
  std::vector<std::byte> data;
  int64_t done = 0;
  for (const TensorToWrite& tensor : tensors) {
    data.resize(static_cast<size_t>(tensor.bytes()));
    tensor.fill(data);
    file.Write(data);
    done += tensor.bytes();
    if (progress) progress(done, total);
  }
  file.Close();
}

void WriteShards(const std::filesystem::path& directory, std::vector<TensorToWrite> tensors,
                 int64_t shard_bytes, const LoadProgress& progress) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  int64_t total = 0;
  int64_t in_shard = 0;
  for (TensorToWrite& tensor : tensors) {
    const int64_t bytes = tensor.bytes();
    if (in_shard + bytes > shard_bytes && !shards.back().empty()) {
      shards.emplace_back();
      in_shard = 0;
    }
    total += bytes;
    in_shard += bytes;
    shards.back().push_back(std::move(tensor));
  }
  nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", nlohmann::json::object()}};
  int64_t done_before = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    int64_t done = done_before;
    for (const TensorToWrite& tensor : shards[i]) {
      index["weight_map"][tensor.name] = name;
      done += tensor.bytes();
    }
    WriteSafetensors(directory / name, std::move(shards[i]), [&](int64_t bytes, int64_t) {
      if (progress) progress(done_before + bytes, total);
    });
    done_before = done;
  }
  WriteTextFile(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

void WriteTextFile(const std::filesystem::path& path, const std::string& text) {
  OutputFile file(path);
  file.Write(std::as_bytes(std::span(text)));
  file.Close();
}

}  // namespace sluice::checkpoint
