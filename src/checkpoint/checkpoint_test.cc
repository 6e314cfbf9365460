#include "checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// A good checkpoint on disk to be damaged as files.
class CheckpointFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(model_);
    WriteDirectory(model_, plan_, ConstantTensors(plan_, WeightFormat::kFp8));
    index_ = nlohmann::json::parse(ReadBytes(IndexFile()));
    // All files but the config and the index.
    shards_ = std::distance(std::filesystem::directory_iterator(model_), {}) - 2;
  }
  std::filesystem::path IndexFile() const { return model_ / "model.safetensors.index.json"; }
  std::filesystem::path Shard(int number) const {
    return model_ / fmt::format("model-{:05}-of-{:05}.safetensors", number, shards_);
  }
  std::vector<std::string> DefectsWithIndex(const nlohmann::json& index) const {
    WriteBytes(IndexFile(), index.dump());
    return DefectsOf(model_);
  }
  // All tensors of the first shard said to be in `name`.
  nlohmann::json WithFirstShardNamed(const std::string& name) const {
    nlohmann::json index = index_;
    for (auto& shard : index["weight_map"]) {
      if (shard == Shard(1).filename().string()) shard = name;
    }
    return index;
  }

  const CheckpointPlan plan_ = SmallPlan(WeightFormat::kFp8);
  TempDirectory directory_;
  std::filesystem::path model_ = directory_ / "model";
  nlohmann::json index_;
  int64_t shards_ = 0;
};

TEST_F(CheckpointFiles, ShardNamesMayNotLeaveTheDirectory) {
  WriteBytes(directory_ / "outside.safetensors", ReadBytes(Shard(1)));
  for (const std::string& name : std::vector<std::string>{
           (directory_ / "outside.safetensors").string(), std::string("../outside.safetensors"),
           std::string("sub/../../outside.safetensors"), std::string(".."), std::string(""),
           std::string("config.json"), std::string("a\n.safetensors")}) {
    EXPECT_THAT(DefectsWithIndex(WithFirstShardNamed(name)),
                ElementsAre(AllOf(HasSubstr("index.json names the shard"), HasSubstr("a plain file name"))))
        << name;
  }
  std::filesystem::create_symlink(directory_ / "outside.safetensors", model_ / "link.safetensors");
  EXPECT_THAT(DefectsWithIndex(WithFirstShardNamed("link.safetensors")),
              ElementsAre(HasSubstr("a link that leads out of the directory to ")));
  EXPECT_THAT(DefectsWithIndex(WithFirstShardNamed("none.safetensors")),
              ElementsAre(HasSubstr("none.safetensors, which is missing from the directory")));
}

TEST_F(CheckpointFiles, TheHubCacheMayLinkIntoItsBlobs) {
  const auto snapshot = directory_ / "models--a--b" / "snapshots" / "0123";
  const auto blobs = directory_ / "models--a--b" / "blobs";
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_directories(blobs);
  for (const auto& entry : std::filesystem::directory_iterator(model_)) {
    const std::string name = entry.path().filename();
    std::filesystem::rename(entry.path(), blobs / name);
    std::filesystem::create_symlink(std::filesystem::path("../../blobs") / name, snapshot / name);
  }
  EXPECT_THAT(DefectsOf(snapshot), IsEmpty());
}

TEST_F(CheckpointFiles, IndexAndHeadersMustAgreeBothWays) {
  nlohmann::json index = index_;
  index["weight_map"]["model.norm.weight"] = Shard(1).filename().string();
  EXPECT_THAT(DefectsWithIndex(index),
              UnorderedElementsAre(HasSubstr("places tensor model.norm.weight in model-00001"),
                                   HasSubstr("has tensor model.norm.weight, which")));
  index = index_;
  index["weight_map"].erase("model.norm.weight");
  EXPECT_THAT(DefectsWithIndex(index), ElementsAre(AllOf(HasSubstr("has tensor model.norm.weight, which"),
                                                         HasSubstr("does not list"))));
  index = index_;
  index["weight_map"]["model.ghost.weight"] = Shard(1).filename().string();
  EXPECT_THAT(DefectsWithIndex(index), ElementsAre(AllOf(HasSubstr("places tensor model.ghost.weight in"),
                                                         HasSubstr("does not have it"))));
  index = index_;
  index["weight_map"]["model.norm.weight"] = 7;
  EXPECT_THAT(DefectsWithIndex(index),
              UnorderedElementsAre(HasSubstr("tensor model.norm.weight is in 7; the name of a shard"),
                                   HasSubstr("has tensor model.norm.weight, which")));
}

TEST_F(CheckpointFiles, AnIndexMustBeAnIndex) {
  EXPECT_THAT(DefectsWithIndex({{"weight_map", {1, 2}}}), ElementsAre(HasSubstr("\"weight_map\" is [1,2]")));
  EXPECT_THAT(DefectsWithIndex(nlohmann::json::object()),
              ElementsAre(HasSubstr("\"weight_map\" is missing")));
  WriteBytes(IndexFile(), "{\"weight_map\": {");
  EXPECT_THAT(DefectsOf(model_), ElementsAre(HasSubstr("index.json is not valid JSON")));
  std::filesystem::remove(IndexFile());
  EXPECT_THAT(DefectsOf(model_), ElementsAre(HasSubstr("has neither model.safetensors.index.json nor")));
  EXPECT_THAT(DefectsOf(model_ / "none"), ElementsAre(HasSubstr("is not a directory")));
}

TEST_F(CheckpointFiles, AStraySingleFileIsAmbiguous) {
  WriteBytes(model_ / "model.safetensors", "x");
  EXPECT_THAT(DefectsOf(model_),
              ElementsAre(HasSubstr("has both model.safetensors.index.json and model.safetensors")));
}

TEST_F(CheckpointFiles, OneFileWithoutAnIndexWillDo) {
  const auto single = directory_ / "single";
  std::filesystem::create_directory(single);
  WriteSafetensors(single / "model.safetensors", ConstantTensors(plan_, WeightFormat::kFp8), nullptr);
  WriteBytes(single / "config.json", plan_.config_text);
  EXPECT_THAT(DefectsOf(single), IsEmpty());
  EXPECT_EQ(Checkpoint::Open(single)->fingerprint(), Checkpoint::Open(model_)->fingerprint());
}

// One damaged shard is one sentence, not one for each of its tensors.
TEST_F(CheckpointFiles, ADamagedShardHidesItsConsequences) {
  const std::string bytes = ReadBytes(Shard(1));
  WriteBytes(Shard(1), bytes.substr(0, 100));
  EXPECT_THAT(DefectsOf(model_), ElementsAre(HasSubstr("says that its header has")));
  WriteBytes(Shard(1), bytes.substr(0, bytes.size() - 1));
  EXPECT_THAT(DefectsOf(model_), ElementsAre(HasSubstr("it is cut or its header is wrong")));
}

TEST_F(CheckpointFiles, EveryDefectIsListedAndOpenThrowsTheFirst) {
  nlohmann::json config = nlohmann::json::parse(plan_.config_text);
  config["topk_method"] = "greedy";
  WriteBytes(model_ / "config.json", config.dump());
  WriteBytes(Shard(2), "short");
  WriteBytes(model_ / "model.safetensors", "x");
  const std::vector<std::string> defects = DefectsOf(model_);
  EXPECT_THAT(defects,
              ElementsAre(HasSubstr("topk_method"), HasSubstr("has 5 bytes"), HasSubstr("has both")));
  EXPECT_EQ(SentenceOf([&] { Checkpoint::Open(model_); }), defects[0]);
}

TEST_F(CheckpointFiles, GetNamesAnUnknownTensor) {
  const auto checkpoint = Checkpoint::Open(model_);
  EXPECT_FALSE(checkpoint->Has("nothing"));
  EXPECT_THAT(SentenceOf([&] { checkpoint->Get("nothing"); }), HasSubstr("index.json has no tensor nothing"));
  EXPECT_TRUE(checkpoint->is_fp8());
  EXPECT_EQ(checkpoint->tensor_count(), plan_.tensors);
}

// One space more in the header moves all data by one byte.
TEST_F(CheckpointFiles, TensorsAtOddOffsetsAreAligned) {
  const auto read_all = [&] {
    std::string all;
    const auto checkpoint = Checkpoint::Open(model_);
    for (const TensorSpec& spec : plan_.specs) {
      const StoredTensor tensor = checkpoint->Get(spec.name);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(SizeOf(tensor.dtype)), 0U);
      EXPECT_EQ(checkpoint->Get(spec.name).data, tensor.data);
      all.append(reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes));
    }
    return all;
  };
  const std::string before = read_all();
  for (int number = 1; number <= shards_; ++number) {
    const std::string file = ReadBytes(Shard(number));
    uint64_t header = 0;
    std::memcpy(&header, file.data(), sizeof(header));
    WriteBytes(Shard(number), Safetensors(file.substr(8, header) + " ", file.substr(8 + header)));
  }
  EXPECT_TRUE(read_all() == before);
}

TEST_F(CheckpointFiles, AShardCutAfterOpenIsNamed) {
  const auto checkpoint = Checkpoint::Open(model_);
  const std::string name = "model.embed_tokens.weight";
  const StoredTensor tensor = checkpoint->Get(name);
  std::filesystem::resize_file(tensor.file, 64);
  for (int64_t i = 0; i < tensor.bytes; ++i) ASSERT_EQ(tensor.data[i], std::byte{0});
  const auto names_file = AllOf(HasSubstr(tensor.file.string()), HasSubstr("has 64 now"));
  EXPECT_THAT(SentenceOf([&] { checkpoint->VerifyIntact(); }), names_file);
  EXPECT_THAT(SentenceOf([&] { checkpoint->Get(name); }), names_file);
  EXPECT_THAT(SentenceOf([&] { checkpoint->Preload(std::span(&name, 1), 2, nullptr); }),
              HasSubstr(tensor.file.string()));
}

TEST_F(CheckpointFiles, PreloadReportsEveryByteAndReadsOnlyWhatIsNamed) {
  const auto checkpoint = Checkpoint::Open(model_);
  std::vector<std::string> names;
  int64_t bytes = 0;
  for (const TensorSpec& spec : TensorsOf(checkpoint->config(), {0, 1, 0, 0, true, false})) {
    names.push_back(spec.name);
    bytes += checkpoint->Get(spec.name).bytes;
  }
  for (const int threads : {1, 4}) {
    int64_t last = 0;
    checkpoint->Preload(names, threads, [&](int64_t done, int64_t total) {
      EXPECT_EQ(total, bytes);
      EXPECT_GE(done, last);
      last = done;
    });
    EXPECT_EQ(last, bytes);
  }
}

TEST(CheckpointFingerprint, TellsModelsOfOneArchitectureApart) {
  const auto fingerprint = [](size_t tensor, std::byte value) {
    const TempDirectory directory;
    const CheckpointPlan plan = SmallPlan(WeightFormat::kF32, {});
    std::vector<TensorToWrite> tensors = ConstantTensors(plan, WeightFormat::kF32);
    tensors[tensor].fill = [value](std::span<std::byte> out) { std::fill(out.begin(), out.end(), value); };
    WriteDirectory(directory.path(), plan, std::move(tensors));
    return Checkpoint::Open(directory.path())->fingerprint();
  };
  const uint64_t base = fingerprint(0, std::byte{0});
  EXPECT_EQ(fingerprint(7, std::byte{0}), base);
  EXPECT_NE(fingerprint(0, std::byte{1}), base);
  EXPECT_NE(fingerprint(7, std::byte{1}), base);
}

TEST(CheckpointFingerprint, DependsOnConfigAndTensorsNotOnShards) {
  const auto fingerprint = [](WeightFormat format, int64_t shard_bytes, std::vector<std::string> overrides) {
    const TempDirectory directory;
    const CheckpointPlan plan = SmallPlan(format, std::move(overrides));
    WriteDirectory(directory.path(), plan, ConstantTensors(plan, format), shard_bytes);
    return Checkpoint::Open(directory.path())->fingerprint();
  };
  const uint64_t base = fingerprint(WeightFormat::kFp8, 100'000, {});
  EXPECT_EQ(fingerprint(WeightFormat::kFp8, 30'000, {}), base);
  EXPECT_NE(fingerprint(WeightFormat::kF32, 100'000, {}), base);
  EXPECT_NE(fingerprint(WeightFormat::kFp8, 100'000, {"routed_scaling_factor=2"}), base);
  EXPECT_NE(fingerprint(WeightFormat::kFp8, 100'000, {"moe_intermediate_size=64"}), base);
}

}  // namespace
}  // namespace sluice::checkpoint
