#include "step/step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>

#include "base/error.h"

namespace sluice::step {
namespace {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int32_t Int(int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(engine_);
  }
  uint64_t Word() { return engine_(); }
  float Float() { return std::uniform_real_distribution<float>(-20.0F, 2.0F)(engine_); }
  bool Coin() { return Int(0, 1) == 1; }
  std::vector<int32_t> Ints(int32_t count, int32_t low) {
    std::vector<int32_t> ints(static_cast<size_t>(count));
    for (int32_t& value : ints) value = Int(low, std::numeric_limits<int32_t>::max());
    return ints;
  }

 private:
  std::mt19937_64 engine_;
};

ops::LogitAdjust RandomAdjust(Random& random) {
  ops::LogitAdjust adjust;
  adjust.repetition_penalty = 0.5F + static_cast<float>(random.Int(0, 20)) / 8.0F;
  for (int32_t token = 0; token < 40; ++token) {
    if (random.Int(0, 9) == 0) adjust.repeated.push_back(token);
    if (random.Int(0, 9) == 0) {
      adjust.biases.push_back(
          {token, random.Coin() ? random.Float() : -std::numeric_limits<float>::infinity()});
    }
  }
  for (int32_t words = random.Coin() ? 3 : 0; words > 0; --words) {
    adjust.allowed.push_back(static_cast<uint32_t>(random.Word()));
  }
  return adjust;
}

Step RandomStep(Random& random) {
  Step step;
  step.id = static_cast<int64_t>(random.Word() >> 1);
  step.begins_busy_period = random.Coin();
  for (int32_t count = random.Int(0, 4); count > 0; --count) {
    StepSequence sequence;
    sequence.sequence = random.Word();
    sequence.first_position = random.Int(0, 200);
    sequence.tokens = random.Ints(random.Int(1, random.Coin() ? 1 : 150), 0);
    if (sequence.tokens.size() == 1 && step.id > 0 && random.Coin()) {
      sequence.tokens = {kAwaitedToken};
      sequence.awaits_step = static_cast<int64_t>(random.Word() % static_cast<uint64_t>(step.id));
    }
    const auto end = sequence.first_position + static_cast<int32_t>(sequence.tokens.size());
    sequence.pages = random.Ints((end + 63) / 64, 0);
    sequence.sample = random.Coin();
    sequence.prompt_logprobs = random.Coin();
    if (sequence.prompt_logprobs) {
      sequence.targets = random.Ints(static_cast<int32_t>(sequence.tokens.size()), -1);
    }
    sequence.return_logits = random.Coin();
    sequence.sampling = {random.Float(), random.Float(),    random.Int(0, 100),
                         random.Word(),  random.Int(0, 20), random.Float()};
    if (random.Coin()) sequence.adjust = RandomAdjust(random);
    step.sequences.push_back(sequence);
  }
  return step;
}

ops::Sampled RandomSampled(Random& random) {
  ops::Sampled sampled{random.Int(-1, 200000), random.Float(), {}};
  for (int32_t count = random.Int(0, 5); count > 0; --count) {
    sampled.top.push_back({random.Int(0, 200000), random.Float()});
  }
  return sampled;
}

StepResult RandomResult(Random& random) {
  StepResult result;
  result.id = static_cast<int64_t>(random.Word() >> 1);
  for (int32_t count = random.Int(0, 4); count > 0; --count) {
    SequenceResult sequence;
    sequence.sequence = random.Word();
    sequence.sampled = random.Coin();
    if (sequence.sampled) sequence.token = RandomSampled(random);
    for (int32_t rows = random.Int(0, 6); rows > 0; --rows) {
      sequence.prompt_logprobs.push_back(RandomSampled(random));
    }
    for (int32_t values = random.Int(0, 30); values > 0; --values) sequence.logits.push_back(random.Float());
    result.sequences.push_back(sequence);
  }
  return result;
}

TEST(Step, ListsItsRowsSequenceBySequence) {
  Step step;
  step.sequences.resize(2);
  step.sequences[0].first_position = 70;
  step.sequences[0].tokens = {5};
  step.sequences[1].first_position = 3;
  step.sequences[1].tokens = {7, 8, 9};
  EXPECT_EQ(step.rows(), 4);
  EXPECT_EQ(step.Tokens(), (std::vector<int32_t>{5, 7, 8, 9}));
  EXPECT_EQ(step.RowsOfSequences(), (std::vector<int64_t>{1, 3}));
  std::vector<std::pair<int32_t, int32_t>> places;
  for (const ops::RowPlace& place : step.Places()) places.emplace_back(place.sequence, place.position);
  EXPECT_EQ(places, (std::vector<std::pair<int32_t, int32_t>>{{0, 70}, {1, 3}, {1, 4}, {1, 5}}));
  EXPECT_EQ(Step{}.rows(), 0);
}

TEST(StepWire, RoundTrip) {
  Random random(1);
  for (int round = 0; round < 2000; ++round) {
    const Step step = RandomStep(random);
    ASSERT_EQ(DecodeStep(Encode(step)), step);
    const StepResult result = RandomResult(random);
    ASSERT_EQ(DecodeStepResult(Encode(result)), result);
  }
}

// Another rank may be another build: the layout itself is the contract, not only that both ends agree.
TEST(StepWire, LayoutByteByByte) {
  Step step;
  step.id = 0x0102;
  step.begins_busy_period = true;
  StepSequence sequence;
  sequence.sequence = 9;
  sequence.first_position = 64;
  sequence.tokens = {0x0A0B0C0D};
  sequence.pages = {4, 5};
  sequence.sample = true;
  sequence.sampling = {1.0F, 0.5F, 3, 0x11, 2, 0.25F};
  sequence.adjust = {2.0F, {7}, {{6, -1.0F}}, {0x01020304}};
  step.sequences = {sequence};
  const std::vector<uint8_t> expected = {
      2,   1,   0,    0,    0,    0,   0,    0,                                         // id
      1,                                                                                // begins_busy_period
      1,   0,   0,    0,    0,    0,   0,    0,                                         // sequences
      9,   0,   0,    0,    0,    0,   0,    0,                                         // sequence
      64,  0,   0,    0,                                                                // first_position
      1,   0,   0,    0,    0,    0,   0,    0,    0x0D, 0x0C, 0x0B, 0x0A,              // tokens
      255, 255, 255,  255,  255,  255, 255,  255,                                       // awaits_step
      2,   0,   0,    0,    0,    0,   0,    0,    4,    0,    0,    0,    5, 0, 0, 0,  // pages
      1,   0,                                       // sample, prompt_logprobs
      0,   0,   0,    0,    0,    0,   0,    0,     // targets
      0,                                            // return_logits
      0,   0,   0x80, 0x3F, 0,    0,   0,    0x3F,  // temperature, top_p
      3,   0,   0,    0,    0x11, 0,   0,    0,    0,    0,    0,    0,    2, 0, 0, 0,
      0,   0,   0x80, 0x3E,                                              // top_k, seed, top_logprobs, min_p
      0,   0,   0,    0x40,                                              // repetition_penalty
      1,   0,   0,    0,    0,    0,   0,    0,    7,    0,    0,    0,  // repeated
      1,   0,   0,    0,    0,    0,   0,    0,                          // biases
      6,   0,   0,    0,    0,    0,   0x80, 0xBF, 1,    0,    0,    0,    0, 0, 0, 0,
      4,   3,   2,    1,  // allowed
  };
  std::vector<uint8_t> bytes;
  for (const std::byte byte : Encode(step)) bytes.push_back(static_cast<uint8_t>(byte));
  EXPECT_EQ(bytes, expected);
}

// Every damaged frame either throws Error(kRankLost) or is one that Encode makes: it encodes to itself.
template <typename Decode>
void SurvivesDamage(const std::vector<std::byte>& good, Random& random, Decode decode) {
  std::vector<std::byte> bytes = good;
  if (random.Coin()) bytes.resize(static_cast<size_t>(random.Int(0, static_cast<int32_t>(bytes.size()))));
  for (int32_t times = random.Int(0, 3); times > 0 && !bytes.empty(); --times) {
    const auto at = static_cast<size_t>(random.Int(0, static_cast<int32_t>(bytes.size()) - 1));
    constexpr int kTelling[] = {0x00, 0x01, 0x02, 0x7F, 0xFF};
    bytes[at] = static_cast<std::byte>(random.Coin() ? kTelling[random.Int(0, 4)] : random.Int(0, 255));
  }
  if (random.Int(0, 9) == 0) bytes.push_back(std::byte{0});
  try {
    ASSERT_EQ(Encode(decode(bytes)), bytes);
  } catch (const Error& error) {
    ASSERT_EQ(error.kind(), ErrorKind::kRankLost) << error.what();
  }
}

TEST(StepWire, SurvivesDamagedFrames) {
  Random random(2);
  for (int round = 0; round < 20000; ++round) {
    SurvivesDamage(Encode(RandomStep(random)), random, DecodeStep);
    SurvivesDamage(Encode(RandomResult(random)), random, DecodeStepResult);
    if (HasFailure()) return;
  }
}

TEST(StepWire, EveryTruncationThrows) {
  Random random(3);
  for (int round = 0; round < 20; ++round) {
    const std::vector<std::byte> step = Encode(RandomStep(random));
    for (size_t size = 0; size < step.size(); ++size) {
      ASSERT_THROW(DecodeStep(std::span(step).first(size)), Error);
    }
    const std::vector<std::byte> result = Encode(RandomResult(random));
    for (size_t size = 0; size < result.size(); ++size) {
      ASSERT_THROW(DecodeStepResult(std::span(result).first(size)), Error);
    }
  }
}

TEST(StepWire, AFlagIsZeroOrOne) {
  Step step;
  step.sequences.resize(1);
  step.sequences[0].tokens = {1};
  step.sequences[0].pages = {0};
  std::vector<std::byte> bytes = Encode(step);
  constexpr size_t kSampleFlag = 8 + 1 + 8 + 8 + 4 + (8 + 4) + 8 + (8 + 4);
  bytes[kSampleFlag] = std::byte{1};
  EXPECT_TRUE(DecodeStep(bytes).sequences.at(0).sample);
  bytes[kSampleFlag] = std::byte{2};
  EXPECT_THROW(DecodeStep(bytes), Error);
}

struct Defect {
  std::function<void(StepSequence&)> damage;
  std::string what;
};

TEST(StepWire, EncodeRefusesWhatDecodeWouldRefuse) {
  const Defect defects[] = {
      {[](StepSequence& s) { s.tokens.clear(); }, "has no rows"},
      {[](StepSequence& s) { s.first_position = -1; }, "begins before position 0"},
      {[](StepSequence& s) { s.first_position = std::numeric_limits<int32_t>::max(); }, "ends beyond"},
      {[](StepSequence& s) { s.pages.pop_back(); }, "has pages that do not cover"},
      {[](StepSequence& s) { s.pages.push_back(8); }, "has pages that do not cover"},
      {[](StepSequence& s) { s.tokens[1] = -1; }, "has a negative token"},
      {[](StepSequence& s) { s.awaits_step = -2; }, "does not come before"},
      {[](StepSequence& s) { s.awaits_step = int64_t{1} << 62; }, "does not come before"},
      {[](StepSequence& s) { s.awaits_step = 0; }, "awaits a token and has others"},
      {[](StepSequence& s) { s.pages[0] = -1; }, "has a negative page"},
      {[](StepSequence& s) { s.targets[0] = -2; }, "has a target below -1"},
      {[](StepSequence& s) { s.targets.pop_back(); }, "has targets that do not fit"},
      {[](StepSequence& s) { s.prompt_logprobs = false; }, "has targets that do not fit"},
      {[](StepSequence& s) { s.sampling.top_k = -1; }, "has a negative top_k"},
      {[](StepSequence& s) { s.sampling.top_logprobs = -1; }, "has a negative top_logprobs"},
      {[](StepSequence& s) { s.adjust.repetition_penalty = 0.0F; }, "has a repetition penalty"},
      {[](StepSequence& s) { s.adjust.repetition_penalty = std::nanf(""); }, "has a repetition penalty"},
      {[](StepSequence& s) { s.adjust.repeated = {-1}; }, "repeats a negative token"},
      {[](StepSequence& s) {
         s.adjust.repeated = {4, 4};
       },
       "has repeated tokens that do not ascend"},
      {[](StepSequence& s) {
         s.adjust.biases = {{-1, 0.0F}};
       },
       "has a bias for a negative token"},
      {[](StepSequence& s) {
         s.adjust.biases = {{1, std::nanf("")}};
       },
       "has a bias that is no number"},
      {[](StepSequence& s) {
         s.adjust.biases = {{1, std::numeric_limits<float>::infinity()}};
       },
       "has a bias that is no number"},
      {[](StepSequence& s) {
         s.adjust.biases = {{3, 0.0F}, {2, 0.0F}};
       },
       "has biases whose tokens"},
  };
  for (const Defect& defect : defects) {
    Step step;
    step.id = 5;
    step.sequences.resize(1);
    StepSequence& sequence = step.sequences[0];
    sequence.first_position = 63;
    sequence.tokens = {1, 2};
    sequence.pages = {3, 4};
    sequence.prompt_logprobs = true;
    sequence.targets = {2, -1};
    ASSERT_NO_THROW(Encode(step));
    defect.damage(sequence);
    try {
      Encode(step);
      ADD_FAILURE() << "accepted: " << defect.what;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(defect.what), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace sluice::step
