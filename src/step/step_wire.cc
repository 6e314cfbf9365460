#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "base/wire.h"
#include "step/step.h"

// Layout of a step: id (64 bits), flag, count of sequences (64 bits); of a result: without the flag; then the
// sequences' fields in the order of the struct. A flag is one byte, 0 or 1; lists carry their count before
// them (base/wire.h).
namespace sluice::step {
namespace {

// A chunk has thousands of tokens: a loop to the end, which the compiler vectorises, is quicker than a
// search.
bool AnyBelow(const std::vector<int32_t>& values, int32_t least) {
  int32_t lowest = std::numeric_limits<int32_t>::max();
  for (const int32_t value : values) lowest = std::min(lowest, value);
  return lowest < least;
}

const char* DefectOf(const ops::LogitAdjust& adjust) {
  // Negated, so that what is not a number is refused too.
  if (!(adjust.repetition_penalty > 0.0F && std::isfinite(adjust.repetition_penalty))) {
    return "has a repetition penalty that is not finite and above 0";
  }
  if (AnyBelow(adjust.repeated, 0)) return "repeats a negative token";
  if (!std::ranges::is_sorted(adjust.repeated, std::less_equal())) {
    return "has repeated tokens that do not ascend";
  }
  for (const ops::TokenBias& entry : adjust.biases) {
    if (entry.token < 0) return "has a bias for a negative token";
    if (!(entry.bias < std::numeric_limits<float>::infinity())) return "has a bias that is no number";
  }
  if (!std::ranges::is_sorted(adjust.biases, std::less_equal(), &ops::TokenBias::token)) {
    return "has biases whose tokens do not ascend";
  }
  return nullptr;
}

// What is wrong with a sequence of step `id`, or nullptr.
const char* DefectOf(int64_t id, const StepSequence& sequence) {
  const auto rows = static_cast<int64_t>(sequence.tokens.size());
  const int64_t end = sequence.first_position + rows;
  if (rows == 0) return "has no rows";
  if (sequence.first_position < 0) return "begins before position 0";
  if (end > std::numeric_limits<int32_t>::max()) return "ends beyond the last 32-bit position";
  if (static_cast<int64_t>(sequence.pages.size()) != CeilDiv(end, ops::kPageTokens)) {
    return "has pages that do not cover exactly its positions";
  }
  if (sequence.awaits_step < -1 || sequence.awaits_step >= id) {
    return "awaits a token of a step that does not come before";
  }
  if (sequence.awaits_step >= 0) {
    if (rows != 1 || sequence.tokens.front() != kAwaitedToken) return "awaits a token and has others";
  } else if (AnyBelow(sequence.tokens, 0)) {
    return "has a negative token";
  }
  if (AnyBelow(sequence.pages, 0)) return "has a negative page";
  if (AnyBelow(sequence.targets, -1)) return "has a target below -1";
  if (sequence.targets.size() != (sequence.prompt_logprobs ? sequence.tokens.size() : 0)) {
    return "has targets that do not fit its rows";
  }
  if (sequence.sampling.top_k < 0) return "has a negative top_k";
  if (sequence.sampling.top_logprobs < 0) return "has a negative top_logprobs";
  return DefectOf(sequence.adjust);
}

bool GetFlag(WireReader& reader) {
  const auto byte = reader.Get<uint8_t>();
  if (byte > 1) Fail(ErrorKind::kRankLost, "a control frame has the flag {}; a flag is 0 or 1", byte);
  return byte == 1;
}

int64_t GetId(WireReader& reader) {
  const auto id = reader.Get<int64_t>();
  if (id < 0) Fail(ErrorKind::kRankLost, "a control frame has the step id {}; ids count from 0", id);
  return id;
}

void Put(WireWriter& writer, const ops::SamplingParams& sampling) {
  writer.Put(sampling.temperature);
  writer.Put(sampling.top_p);
  writer.Put(sampling.top_k);
  writer.Put(sampling.seed);
  writer.Put(sampling.top_logprobs);
  writer.Put(sampling.min_p);
}

ops::SamplingParams GetSampling(WireReader& reader) {
  ops::SamplingParams sampling;
  sampling.temperature = reader.Get<float>();
  sampling.top_p = reader.Get<float>();
  sampling.top_k = reader.Get<int32_t>();
  sampling.seed = reader.Get<uint64_t>();
  sampling.top_logprobs = reader.Get<int32_t>();
  sampling.min_p = reader.Get<float>();
  return sampling;
}

void Put(WireWriter& writer, const ops::LogitAdjust& adjust) {
  writer.Put(adjust.repetition_penalty);
  writer.PutList(std::span<const int32_t>(adjust.repeated));
  writer.PutList(std::span<const ops::TokenBias>(adjust.biases));
  writer.PutList(std::span<const uint32_t>(adjust.allowed));
}

ops::LogitAdjust GetAdjust(WireReader& reader) {
  ops::LogitAdjust adjust;
  adjust.repetition_penalty = reader.Get<float>();
  adjust.repeated = reader.GetList<int32_t>();
  adjust.biases = reader.GetList<ops::TokenBias>();
  adjust.allowed = reader.GetList<uint32_t>();
  return adjust;
}

void Put(WireWriter& writer, const ops::Sampled& sampled) {
  writer.Put(sampled.token);
  writer.Put(sampled.logprob);
  writer.PutList(std::span<const ops::TokenLogprob>(sampled.top));
}

ops::Sampled GetSampled(WireReader& reader) {
  ops::Sampled sampled;
  sampled.token = reader.Get<int32_t>();
  sampled.logprob = reader.Get<float>();
  sampled.top = reader.GetList<ops::TokenLogprob>();
  return sampled;
}

StepSequence GetStepSequence(WireReader& reader) {
  StepSequence sequence;
  sequence.sequence = reader.Get<uint64_t>();
  sequence.first_position = reader.Get<int32_t>();
  sequence.tokens = reader.GetList<int32_t>();
  sequence.awaits_step = reader.Get<int64_t>();
  sequence.pages = reader.GetList<int32_t>();
  sequence.sample = GetFlag(reader);
  sequence.prompt_logprobs = GetFlag(reader);
  sequence.targets = reader.GetList<int32_t>();
  sequence.return_logits = GetFlag(reader);
  sequence.sampling = GetSampling(reader);
  sequence.adjust = GetAdjust(reader);
  return sequence;
}

SequenceResult GetSequenceResult(WireReader& reader) {
  SequenceResult result;
  result.sequence = reader.Get<uint64_t>();
  result.sampled = GetFlag(reader);
  result.token = GetSampled(reader);
  // Elements are read one by one, so a false count meets the end of the frame before it costs memory.
  const auto rows = reader.Get<uint64_t>();
  for (uint64_t row = 0; row < rows; ++row) result.prompt_logprobs.push_back(GetSampled(reader));
  result.logits = reader.GetList<float>();
  return result;
}

}  // namespace

std::vector<std::byte> Encode(const Step& step) {
  SLUICE_CHECK(step.id >= 0, "step id {}", step.id);
  constexpr size_t kFixedBytes = 128;  // more than the fields of one size
  size_t bytes = kFixedBytes;
  for (const StepSequence& sequence : step.sequences) {
    bytes += kFixedBytes +
             (sequence.tokens.size() + sequence.pages.size() + sequence.targets.size() +
              sequence.adjust.repeated.size() + sequence.adjust.allowed.size()) *
                 sizeof(int32_t) +
             sequence.adjust.biases.size() * sizeof(ops::TokenBias);
  }
  WireWriter writer(bytes);
  writer.Put(step.id);
  writer.Put<uint8_t>(step.begins_busy_period);
  writer.Put<uint64_t>(step.sequences.size());
  for (const StepSequence& sequence : step.sequences) {
    const char* defect = DefectOf(step.id, sequence);
    SLUICE_CHECK(defect == nullptr, "sequence {} of step {} {}", sequence.sequence, step.id, defect);
    writer.Put(sequence.sequence);
    writer.Put(sequence.first_position);
    writer.PutList(std::span<const int32_t>(sequence.tokens));
    writer.Put(sequence.awaits_step);
    writer.PutList(std::span<const int32_t>(sequence.pages));
    writer.Put<uint8_t>(sequence.sample);
    writer.Put<uint8_t>(sequence.prompt_logprobs);
    writer.PutList(std::span<const int32_t>(sequence.targets));
    writer.Put<uint8_t>(sequence.return_logits);
    Put(writer, sequence.sampling);
    Put(writer, sequence.adjust);
  }
  return writer.Take();
}

Step DecodeStep(std::span<const std::byte> bytes) {
  WireReader reader(bytes);
  Step step;
  step.id = GetId(reader);
  step.begins_busy_period = GetFlag(reader);
  const auto count = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < count; ++i) {
    step.sequences.push_back(GetStepSequence(reader));
    if (const char* defect = DefectOf(step.id, step.sequences.back()); defect != nullptr) {
      Fail(ErrorKind::kRankLost, "a control frame for step {} is not valid: sequence {} {}", step.id,
           step.sequences.back().sequence, defect);
    }
  }
  reader.Done();
  return step;
}

std::vector<std::byte> Encode(const StepResult& result) {
  SLUICE_CHECK(result.id >= 0, "step id {}", result.id);
  WireWriter writer;
  writer.Put(result.id);
  writer.Put<uint64_t>(result.sequences.size());
  for (const SequenceResult& sequence : result.sequences) {
    writer.Put(sequence.sequence);
    writer.Put<uint8_t>(sequence.sampled);
    Put(writer, sequence.token);
    writer.Put<uint64_t>(sequence.prompt_logprobs.size());
    for (const ops::Sampled& row : sequence.prompt_logprobs) Put(writer, row);
    writer.PutList(std::span<const float>(sequence.logits));
  }
  return writer.Take();
}

StepResult DecodeStepResult(std::span<const std::byte> bytes) {
  WireReader reader(bytes);
  StepResult result;
  result.id = GetId(reader);
  const auto count = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < count; ++i) result.sequences.push_back(GetSequenceResult(reader));
  reader.Done();
  return result;
}

}  // namespace sluice::step
