#include "pipeline/slab_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ops/reference/reference_ops.h"
#include "ops/sampling.h"
#include "ops/wrapped_ops.h"

namespace sluice::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kTokens = 40;  // of the vocabulary

// Notes which ops were asked for, with how many rows.
class NotedOps final : public ops::WrappedOps {
 public:
  NotedOps() : WrappedOps(ops::MakeReferenceOps(ops::Numerics::kExact)) {}
  std::vector<std::string> notes;

 private:
  void Around(const char* op, int64_t rows, FunctionRef<void()> run) override {
    notes.push_back(fmt::format("{} {}", op, rows));
    run();
  }
};

// Sequences that want all there is to want, at different positions.
step::Step StepOfAllKinds() {
  step::Step step;
  step.id = 7;
  const auto add = [&](int32_t first_position, std::vector<int32_t> tokens) -> step::StepSequence& {
    step::StepSequence& sequence = step.sequences.emplace_back();
    sequence.sequence = 100 + step.sequences.size();
    sequence.first_position = first_position;
    sequence.tokens = std::move(tokens);
    return sequence;
  };
  add(9, {1}).sample = true;
  step::StepSequence& drawn = add(20, {2});
  drawn.sample = true;
  drawn.sampling = {.temperature = 1.5F, .seed = 11, .top_logprobs = 2};
  add(0, {3, 4, 5});  // of which nothing is wanted
  step::StepSequence& scored = add(30, {6, 7, 8});
  scored.sample = scored.prompt_logprobs = true;
  scored.targets = {7, 8, -1};
  scored.sampling.top_logprobs = 1;
  step::StepSequence& scored_alike = add(0, {9, 10});
  scored_alike.prompt_logprobs = true;
  scored_alike.targets = {10, 11};
  scored_alike.sampling.top_logprobs = 1;
  step::StepSequence& scored_otherwise = add(64, {12});
  scored_otherwise.prompt_logprobs = true;
  scored_otherwise.targets = {13};
  step::StepSequence& raw = add(5, {14, 15});
  raw.sample = raw.return_logits = true;
  raw.adjust.allowed = {0x00000f00, 0};
  return step;
}

// Rows 0, 1 | 5, 6, 7 | 8, 9 | 10 | 11, 12 of the step.
constexpr int64_t kWanted = 10;

struct Slabs {
  std::vector<std::string> notes;
  step::StepResult result;
};

Slabs ReadInSlabs(const step::Step& step, const Tensor& logits, const std::vector<int64_t>& counts) {
  NotedOps ops;
  SlabReader reader(step, ops);
  EXPECT_THAT(reader.wanted(), ElementsAre(0, 1, 5, 6, 7, 8, 9, 10, 11, 12));
  int64_t first = 0;
  for (const int64_t count : counts) {
    reader.Read(first, logits.RowRange(first, count));
    first += count;
  }
  return {ops.notes, reader.Take()};
}

class SlabReaderTest : public testing::Test {
 protected:
  SlabReaderTest() {
    std::mt19937_64 random(3);
    std::uniform_real_distribution<float> value(-4.0F, 4.0F);
    for (int64_t i = 0; i < kWanted * kTokens; ++i) logits_.view().Row<float>(0)[i] = value(random);
  }
  std::span<const float> Row(int64_t wanted) const {
    return {logits_.view().Row<const float>(wanted), static_cast<size_t>(kTokens)};
  }

  const step::Step step_ = StepOfAllKinds();
  const OwnedTensor logits_{DType::kF32, kWanted, kTokens};
};

// Each from its own row and nothing else, however the rows are cut into slabs.
TEST_F(SlabReaderTest, EverySequenceGetsWhatItsOwnRowsSay) {
  for (const auto& counts : std::vector<std::vector<int64_t>>{{10}, {4, 6}, {1, 2, 6, 1}}) {
    const step::StepResult result = ReadInSlabs(step_, logits_, counts).result;
    EXPECT_EQ(result.id, 7);
    ASSERT_EQ(result.sequences.size(), 7U);
    // By sequence of the step: the wanted row that is sampled, and the position of the token that follows.
    const int64_t sampled_row[] = {0, 1, -1, 4, -1, -1, 9};
    const int64_t next_position[] = {10, 21, 0, 33, 0, 0, 7};
    for (size_t i = 0; i < 7; ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(result.sequences[i].sequence, 101 + i);
      ASSERT_EQ(result.sequences[i].sampled, sampled_row[i] >= 0);
      if (sampled_row[i] < 0) continue;
      EXPECT_EQ(result.sequences[i].token, ops::SampleRow(Row(sampled_row[i]), step_.sequences[i].sampling,
                                                          step_.sequences[i].adjust, next_position[i]));
    }
    EXPECT_THAT(
        result.sequences[3].prompt_logprobs,
        ElementsAre(ops::LogprobRow(Row(2), 7, 1), ops::LogprobRow(Row(3), 8, 1), ops::Sampled{-1, 0, {}}));
    EXPECT_THAT(result.sequences[4].prompt_logprobs,
                ElementsAre(ops::LogprobRow(Row(5), 10, 1), ops::LogprobRow(Row(6), 11, 1)));
    EXPECT_THAT(result.sequences[5].prompt_logprobs, ElementsAre(ops::LogprobRow(Row(7), 13, 0)));
    for (const size_t other : {0, 1, 2, 6}) EXPECT_THAT(result.sequences[other].prompt_logprobs, IsEmpty());
    const auto* raw = logits_.view().Row<const float>(8);
    EXPECT_EQ(result.sequences[6].logits, std::vector<float>(raw, raw + 2 * kTokens));
    for (size_t other = 0; other < 6; ++other) EXPECT_THAT(result.sequences[other].logits, IsEmpty());
    EXPECT_GE(result.sequences[6].token.token, 8);
    EXPECT_LT(result.sequences[6].token.token, 12);
  }
}

TEST_F(SlabReaderTest, NeighboursThatWantTheSameGoTogether) {
  EXPECT_THAT(ReadInSlabs(step_, logits_, {10}).notes,
              ElementsAre("Logprobs 5", "Logprobs 1", "Sample 2", "Sample 1", "Sample 1"));
  EXPECT_THAT(ReadInSlabs(step_, logits_, {4, 6}).notes,
              ElementsAre("Logprobs 2", "Sample 2", "Logprobs 3", "Logprobs 1", "Sample 1", "Sample 1"));
}

// As on the lanes that have no logits.
TEST_F(SlabReaderTest, WithoutSlabsNothingIsFound) {
  const Slabs none = ReadInSlabs(step_, logits_, {});
  EXPECT_THAT(none.notes, IsEmpty());
  ASSERT_EQ(none.result.sequences.size(), 7U);
  for (const step::SequenceResult& result : none.result.sequences) {
    EXPECT_FALSE(result.sampled);
    EXPECT_THAT(result.prompt_logprobs, IsEmpty());
  }
}

}  // namespace
}  // namespace sluice::pipeline
