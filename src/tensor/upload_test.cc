#include "tensor/upload.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <utility>
#include <vector>

namespace sluice {
namespace {

// As late as a device may be: a copy is made when the host waits for it, from what lies there then.
class LateStream final : public WorkStream {
 public:
  std::unique_ptr<StreamMark> Record() override { return nullptr; }
  void WaitFor(const StreamMark&) override {}
  void Copy(const void* from, void* to, int64_t bytes) override {
    copies_.emplace_back([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
  }
  void Call(std::function<void()>) override {}
  void Finish() override {
    for (const auto& copy : std::exchange(copies_, {})) copy();
  }
  void FinishUpTo(const StreamMark&) override { Finish(); }
  void SetBeforeFinish(std::function<void()>) override {}

 private:
  std::vector<std::function<void()>> copies_;
};

class LateDevice final : public Memory {
 public:
  bool OnHost() const override { return false; }
  std::byte* Allocate(int64_t bytes) override { return HostMemory().Allocate(bytes); }
  void Free(std::byte* memory, int64_t bytes) noexcept override { HostMemory().Free(memory, bytes); }
  void Copy(const void* from, void* to, int64_t bytes) override { HostMemory().Copy(from, to, bytes); }
  Memory& Landing() override { return HostMemory(); }
  std::unique_ptr<WorkStream> NewStream() override { return std::make_unique<LateStream>(); }
};

// Spans of all sizes around a piece, together several times what the slots hold, so that each is used again.
TEST(UploadTest, EverythingIsThereWhenItReturns) {
  constexpr int64_t kPiece = Upload::kPieceBytes;
  LateDevice device;
  std::mt19937_64 random(11);
  for (const int threads : {1, 3}) {
    Upload upload(device, threads);
    for (int round = 0; round < 2; ++round) {
      std::vector<std::vector<uint64_t>> sources;
      std::vector<Buffer> targets;
      std::vector<Upload::Span> spans;
      for (const int64_t bytes :
           {int64_t{0}, int64_t{1}, int64_t{77}, kPiece - 1, kPiece, kPiece + 1, 16 * kPiece + 5}) {
        auto& source = sources.emplace_back(static_cast<size_t>(bytes / 8 + 1));
        for (uint64_t& word : source) word = random();
        Buffer& target = targets.emplace_back(bytes + 1, device);
        spans.push_back({source.data(), target.data(), bytes});
      }
      upload.Copy(spans);
      for (size_t i = 0; i < spans.size(); ++i) {
        const auto bytes = static_cast<size_t>(spans[i].bytes);
        EXPECT_EQ(std::memcmp(targets[i].data(), sources[i].data(), bytes), 0)
            << bytes << " bytes, " << threads << " threads";
        EXPECT_EQ(targets[i].data()[bytes], std::byte{0}) << "behind " << bytes << " bytes";
      }
    }
  }
}

}  // namespace
}  // namespace sluice
