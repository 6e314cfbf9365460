#include "checkpoint/coverage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The defects of a checkpoint of SmallPlan whose tensors `change` has changed before writing.
template <typename Change>
std::vector<std::string> DefectsAfter(WeightFormat format, const Change& change,
                                      std::vector<std::string> overrides = {}) {
  const TempDirectory directory;
  const CheckpointPlan plan = SmallPlan(format, std::move(overrides));
  std::vector<TensorToWrite> tensors = ConstantTensors(plan, format);
  change(tensors);
  WriteDirectory(directory.path(), plan, std::move(tensors));
  return DefectsOf(directory.path());
}

TensorToWrite& Named(std::vector<TensorToWrite>& tensors, const std::string& name) {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == name; });
  SLUICE_CHECK(found != tensors.end(), "{}", name);
  return *found;
}

void Remove(std::vector<TensorToWrite>& tensors, const std::string& name) {
  tensors.erase(tensors.begin() + (&Named(tensors, name) - tensors.data()));
}

TEST(Coverage, AWholeCheckpointHasNoDefects) {
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kFp8}) {
    EXPECT_THAT(DefectsAfter(format, [](auto&) {}), IsEmpty());
  }
}

// Every tensor in turn: without it, under another name, with another shape.
TEST(Coverage, NamesEachTensorThatIsMissingUnknownOrMisshapen) {
  const CheckpointPlan plan = SmallPlan(WeightFormat::kFp8, {"num_hidden_layers=2"});
  const std::vector<TensorToWrite> whole = ConstantTensors(plan, WeightFormat::kFp8);
  const TempDirectory directory;
  const auto defects_with = [&](const std::vector<TensorToWrite>& tensors) {
    for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
      std::filesystem::remove(entry.path());
    }
    WriteDirectory(directory.path(), plan, tensors, /*shard_bytes=*/10'000'000);
    return DefectsOf(directory.path());
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    const std::string& name = whole[i].name;
    const bool is_scale = IsScaleName(name);
    std::vector<TensorToWrite> tensors = whole;
    tensors.erase(tensors.begin() + static_cast<int64_t>(i));
    const std::vector<std::string> missing = defects_with(tensors);
    ASSERT_FALSE(missing.empty()) << name;
    EXPECT_THAT(missing[0],
                HasSubstr(is_scale ? name + " is missing" : "tensor " + name + " is missing; config"));

    tensors = whole;
    tensors[i].name += "x";
    EXPECT_THAT(
        defects_with(tensors),
        AllOf(testing::SizeIs(2), Contains(AllOf(HasSubstr(".safetensors: tensor " + name + "x "),
                                                 HasSubstr("is not one that config.json calls for")))))
        << name;

    tensors = whole;
    tensors[i].shape.insert(tensors[i].shape.begin(), 1);
    EXPECT_THAT(defects_with(tensors), ElementsAre(AllOf(HasSubstr(".safetensors: tensor " + name),
                                                         HasSubstr(ShownShape(tensors[i].shape)),
                                                         HasSubstr(ShownShape(whole[i].shape)))))
        << name;
  }
}

TEST(Coverage, SaysWhatWasExpected) {
  const std::string wk = "model.layers.1.self_attn.indexer.wk.weight";
  EXPECT_THAT(DefectsAfter(WeightFormat::kF32,
                           [&](auto& tensors) {
                             Named(tensors, wk).shape = {48, 128};
                           }),
              ElementsAre(HasSubstr(wk + " has shape [48, 128]; config.json calls for [128, 48].")));
  EXPECT_THAT(DefectsAfter(WeightFormat::kF32, [&](auto& tensors) { Remove(tensors, wk); }),
              ElementsAre(HasSubstr("model.safetensors.index.json: tensor " + wk +
                                    " is missing; config.json calls for one of shape [128, 48].")));
}

TEST(Coverage, Fp8GoesWithAScaleAndNothingElseDoes) {
  const std::string wk = "model.layers.1.self_attn.indexer.wk.weight";
  const auto fp8 = WeightFormat::kFp8;
  EXPECT_THAT(DefectsAfter(fp8, [&](auto& tensors) { Remove(tensors, ScaleName(wk)); }),
              ElementsAre(HasSubstr(wk + " is F8_E4M3, but " + wk + "_scale_inv is missing")));
  EXPECT_THAT(DefectsAfter(fp8, [&](auto& tensors) { Named(tensors, wk).dtype = DType::kBF16; }),
              ElementsAre(HasSubstr(wk + " is BF16, but it has " + wk + "_scale_inv; F8_E4M3 is expected")));
  EXPECT_THAT(DefectsAfter(fp8, [&](auto& tensors) { Named(tensors, ScaleName(wk)).dtype = DType::kBF16; }),
              ElementsAre(HasSubstr(wk + "_scale_inv is BF16 [1, 1]; F32 [1, 1] is expected")));
  // A linear by itself may stay in a wider type.
  EXPECT_THAT(DefectsAfter(fp8,
                           [&](auto& tensors) {
                             Named(tensors, wk).dtype = DType::kF16;
                             Remove(tensors, ScaleName(wk));
                           }),
              IsEmpty());
  EXPECT_THAT(
      DefectsAfter(fp8, [](auto& tensors) { Named(tensors, "lm_head.weight").dtype = DType::kF8E4M3; }),
      ElementsAre(HasSubstr("lm_head.weight is F8_E4M3; F32, BF16 or F16 is expected")));
}

TEST(Coverage, ScalesMustBeFiniteAndPositive) {
  const std::string scale = "model.layers.2.mlp.experts.3.up_proj.weight_scale_inv";
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    const auto spoil = [&](auto& tensors) {
      Named(tensors, scale).fill = [bad](std::span<std::byte> out) {
        std::memcpy(out.data(), &bad, sizeof(bad));
      };
    };
    EXPECT_THAT(DefectsAfter(WeightFormat::kFp8, spoil), ElementsAre(HasSubstr("scale 0 of tensor " + scale)))
        << bad;
    const TempDirectory directory;
    const CheckpointPlan plan = SmallPlan(WeightFormat::kFp8);
    auto tensors = ConstantTensors(plan, WeightFormat::kFp8);
    spoil(tensors);
    WriteDirectory(directory.path(), plan, std::move(tensors));
    const auto checkpoint = Checkpoint::Open(directory.path());  // headers only
    EXPECT_THAT(SentenceOf([&] { checkpoint->Get(scale); }),
                HasSubstr("a finite number above 0 is expected"));
  }
}

TEST(Coverage, RefusesFusedExpertsByName) {
  EXPECT_THAT(DefectsAfter(WeightFormat::kF32,
                           [](auto& tensors) {
                             for (const char* projection : {"gate_proj", "up_proj"}) {
                               for (int expert = 0; expert < 4; ++expert) {
                                 Remove(tensors, fmt::format("model.layers.1.mlp.experts.{}.{}.weight",
                                                             expert, projection));
                               }
                             }
                             tensors.push_back({"model.layers.1.mlp.experts.gate_up_proj",
                                                DType::kF32,
                                                {4, 256, 48},
                                                [](std::span<std::byte>) {}});
                           })
                  .back(),
              HasSubstr("model.layers.1.mlp.experts.gate_up_proj holds all experts of a layer in one; save"));
}

TEST(Coverage, NextnLayersAreOptionalButTheirTensorsAreChecked) {
  const std::vector<std::string> one = {"num_nextn_predict_layers=1"};
  const std::string eh = "model.layers.3.eh_proj.weight";
  EXPECT_THAT(DefectsAfter(
                  WeightFormat::kFp8, [](auto&) {}, one),
              IsEmpty());
  EXPECT_THAT(DefectsAfter(
                  WeightFormat::kFp8, [&](auto& tensors) { Remove(tensors, eh); }, one),
              IsEmpty());
  EXPECT_THAT(DefectsAfter(
                  WeightFormat::kFp8,
                  [](auto& tensors) {
                    std::erase_if(tensors,
                                  [](const auto& t) { return t.name.starts_with("model.layers.3."); });
                  },
                  one),
              IsEmpty());
  EXPECT_THAT(DefectsAfter(
                  WeightFormat::kFp8,
                  [&](auto& tensors) {
                    Named(tensors, eh).shape = {96, 48};
                  },
                  one),
              ElementsAre(HasSubstr(eh + " has shape [96, 48]; config.json calls for [48, 96]")));
  // Without the key in the config they are unknown.
  EXPECT_THAT(DefectsAfter(WeightFormat::kFp8,
                           [&](auto& tensors) {
                             tensors.push_back({eh, DType::kF32, {48, 96}, [](std::span<std::byte>) {}});
                           }),
              ElementsAre(HasSubstr(eh + " [48, 96] is not one that config.json calls for")));
}

}  // namespace
}  // namespace sluice::checkpoint
