#include "checkpoint/safetensors_writer.h"

#include <gtest/gtest.h>

#include <numeric>

#include "checkpoint/safetensors.h"
#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TensorToWrite Counting(const std::string& name, DType dtype, std::vector<int64_t> shape, uint8_t first) {
  return {name, dtype, std::move(shape), [first](std::span<std::byte> out) {
            for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(first + i);
          }};
}

// Byte for byte what safetensors.torch.save_file(..., metadata={"format": "pt"}) lays out.
TEST(SafetensorsWriter, WritesTheLayoutOfTheHuggingFaceLibrary) {
  const TempDirectory directory;
  WriteSafetensors(directory / "x.safetensors",
                   {Counting("z", DType::kBF16, {2}, 20), Counting("q", DType::kF8E4M3, {3}, 30),
                    Counting("b", DType::kF32, {1, 1}, 10), Counting("a", DType::kBF16, {1}, 40)},
                   nullptr);
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("b":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},)"
                             R"("a":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},)"
                             R"("z":{"dtype":"BF16","shape":[2],"data_offsets":[6,10]},)"
                             R"("q":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[10,13]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(ReadBytes(directory / "x.safetensors"),
            Safetensors(padded, "\x0a\x0b\x0c\x0d\x28\x29\x14\x15\x16\x17\x1e\x1f\x20"));
}

TEST(SafetensorsWriter, ReaderGetsBackWhatWasWritten) {
  const TempDirectory directory;
  WriteShards(directory.path(),
              {Counting("a", DType::kF32, {5}, 1), Counting("b", DType::kF16, {2, 3}, 2),
               Counting("c", DType::kF32, {100}, 3), Counting("d", DType::kBF16, {1}, 4)},
              /*shard_bytes=*/40, nullptr);
  Defects defects;
  const std::string names[] = {"a", "b", "c", "d"};
  const int shards[] = {1, 1, 2, 3};  // 20 + 12 bytes, then 400 by itself, then the rest
  for (int i = 0; i < 4; ++i) {
    const auto path = directory / fmt::format("model-{:05}-of-00003.safetensors", shards[i]);
    const SafetensorsFile file = ReadSafetensorsHeader(path, defects);
    const TensorEntry& entry = file.header.tensors.at(names[i]);
    const std::string bytes =
        ReadBytes(path).substr(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.bytes));
    std::string expected(bytes.size(), '\0');
    std::iota(expected.begin(), expected.end(), static_cast<char>(i + 1));
    EXPECT_EQ(bytes, expected) << names[i];
  }
  EXPECT_THAT(defects.sentences(), IsEmpty());
  EXPECT_EQ(ReadBytes(directory / "model.safetensors.index.json"), R"({
  "metadata": {
    "total_size": 434
  },
  "weight_map": {
    "a": "model-00001-of-00003.safetensors",
    "b": "model-00001-of-00003.safetensors",
    "c": "model-00002-of-00003.safetensors",
    "d": "model-00003-of-00003.safetensors"
  }
}
)");
}

TEST(SafetensorsWriter, ReportsEveryByteOnce) {
  const TempDirectory directory;
  std::vector<std::pair<int64_t, int64_t>> reports;
  WriteShards(directory.path(), {Counting("a", DType::kF32, {5}, 1), Counting("b", DType::kF32, {10}, 2)}, 20,
              [&](int64_t done, int64_t total) { reports.emplace_back(done, total); });
  EXPECT_EQ(reports, (std::vector<std::pair<int64_t, int64_t>>{{20, 60}, {60, 60}}));
}

TEST(SafetensorsWriter, NamesTheFileThatCannotBeWritten) {
  EXPECT_THAT(SentenceOf([] { WriteTextFile("/proc/no/such/file", "x"); }),
              HasSubstr("/proc/no/such/file cannot be written: No such file"));
  const TempDirectory directory;
  WriteBytes(directory / "there", "x");
  EXPECT_THAT(SentenceOf([&] { WriteTextFile(directory / "there", "y"); }),
              HasSubstr("there cannot be written: File exists"));
}

}  // namespace
}  // namespace sluice::checkpoint
