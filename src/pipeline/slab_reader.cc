#include "pipeline/slab_reader.h"

#include <algorithm>

#include "model/vocabulary.h"

namespace sluice::pipeline {
namespace {

// Calls of_run(begin, count) for the longest runs of rows of which fits(begin, row) holds.
template <typename Fits, typename OfRun>
void ForEachRun(int64_t rows, const Fits& fits, const OfRun& of_run) {
  for (int64_t begin = 0; begin < rows;) {
    int64_t end = begin;
    while (end < rows && fits(begin, end)) ++end;
    if (end > begin) of_run(begin, end - begin);
    begin = std::max(end, begin + 1);
  }
}

}  // namespace

SlabReader::SlabReader(const step::Step& step, ops::Ops& ops)
    : step_(step), ops_(ops), wanted_(model::WantedRows(step)), result_{step.id, {}} {
  for (const step::StepSequence& sequence : step.sequences) {
    result_.sequences.push_back({sequence.sequence, false, {}, {}, {}});
  }
  const std::vector<ops::RowPlace> places = step.Places();
  for (const int64_t row : wanted_) {
    const ops::RowPlace& place = places[row];
    const auto sequence = static_cast<size_t>(place.sequence);
    places_.push_back({sequence, place.position - step.sequences[sequence].first_position});
  }
}

void SlabReader::Read(int64_t first, const Tensor& logits) {
  const auto places =
      std::span<const Place>(places_).subspan(static_cast<size_t>(first), static_cast<size_t>(logits.rows));
  CopyLogits(places, logits);
  const auto looked_up = [&](int64_t begin, int64_t row) {
    const step::StepSequence& sequence = Sequence(places[row]);
    return sequence.prompt_logprobs &&
           sequence.sampling.top_logprobs == Sequence(places[begin]).sampling.top_logprobs;
  };
  ForEachRun(logits.rows, looked_up, [&](int64_t begin, int64_t count) {
    LookUp(places.subspan(begin, count), logits.RowRange(begin, count));
  });
  const auto sampled = [&](int64_t, int64_t row) {
    const step::StepSequence& sequence = Sequence(places[row]);
    return sequence.sample && places[row].row + 1 == std::ssize(sequence.tokens);
  };
  ForEachRun(logits.rows, sampled, [&](int64_t begin, int64_t count) {
    Sample(places.subspan(begin, count), logits.RowRange(begin, count));
  });
}

void SlabReader::CopyLogits(std::span<const Place> places, const Tensor& logits) {
  for (int64_t row = 0; row < logits.rows; ++row) {
    if (!Sequence(places[row]).return_logits) continue;
    ops_.Finish();
    const HostCopy copy(logits.RowRange(row, 1), ops_.memory());
    const auto* values = copy.view().Row<const float>(0);
    std::vector<float>& into = Result(places[row]).logits;
    into.insert(into.end(), values, values + logits.cols);
  }
}

// They want equally many alternatives.
void SlabReader::LookUp(std::span<const Place> places, const Tensor& logits) {
  std::vector<int32_t> targets;
  for (const Place& place : places) targets.push_back(Sequence(place).targets[place.row]);
  const auto likely = ops_.Logprobs(logits, targets, Sequence(places[0]).sampling.top_logprobs);
  for (size_t i = 0; i < places.size(); ++i) Result(places[i]).prompt_logprobs.push_back(likely[i]);
}

void SlabReader::Sample(std::span<const Place> places, const Tensor& logits) {
  std::vector<ops::SamplingParams> params;
  std::vector<ops::LogitAdjust> adjusts;
  std::vector<int64_t> positions;  // of the tokens that are drawn
  for (const Place& place : places) {
    const step::StepSequence& sequence = Sequence(place);
    params.push_back(sequence.sampling);
    adjusts.push_back(sequence.adjust);
    positions.push_back(sequence.first_position + place.row + 1);
  }
  const auto tokens = ops_.Sample(logits, params, adjusts, positions);
  for (size_t i = 0; i < places.size(); ++i) {
    Result(places[i]).sampled = true;
    Result(places[i]).token = tokens[i];
  }
}

}  // namespace sluice::pipeline
