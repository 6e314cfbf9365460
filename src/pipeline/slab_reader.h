#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ops/ops.h"
#include "step/step.h"
#include "tensor/tensor.h"

namespace sluice::pipeline {

// Reads a step's result out of the logits of its wanted rows, slab by slab: samples, looks up
// log-probabilities, copies raw logits. Neighbouring rows that want the same of the back end go to it
// together: in a step of decodes these are all.
class SlabReader {
 public:
  // Both outlive it.
  SlabReader(const step::Step& step, ops::Ops& ops);

  // Rows of the step, ascending (model::WantedRows).
  const std::vector<int64_t>& wanted() const { return wanted_; }
  // `logits` [count, vocab] F32: of wanted rows [first, first + count). In order, each once. Throws what the
  // ops throw.
  void Read(int64_t first, const Tensor& logits);
  // Of all sequences of the step; those that nothing was read for have nothing in it. Once.
  step::StepResult Take() { return std::move(result_); }

 private:
  // Where a wanted row stands.
  struct Place {
    size_t sequence = 0;  // in the step
    int64_t row = 0;      // among the sequence's here
  };
  const step::StepSequence& Sequence(const Place& place) const { return step_.sequences[place.sequence]; }
  step::SequenceResult& Result(const Place& place) { return result_.sequences[place.sequence]; }

  // `logits` are those of `places`.
  void CopyLogits(std::span<const Place> places, const Tensor& logits);
  void LookUp(std::span<const Place> places, const Tensor& logits);
  void Sample(std::span<const Place> places, const Tensor& logits);

  const step::Step& step_;
  ops::Ops& ops_;
  const std::vector<int64_t> wanted_;
  std::vector<Place> places_;  // of the wanted rows
  step::StepResult result_;
};

}  // namespace sluice::pipeline
