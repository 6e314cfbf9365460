#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "parallel/grid.h"
#include "step/step.h"

namespace sluice::pipeline {

// Sampled tokens, from lane 0 of the last stage straight to every lane of the first: a decode row may be
// published before its token is known, and then waits for it there instead of for the controller. Four bytes
// for each sequence that a step samples, in the step's order, and a checksum; the controller learns them from
// the result.
class TokenRelay {
 public:
  // keep: how many of the latest sampling steps may still be awaited; at least the steps in flight.
  TokenRelay(comm::Communicator& world, const parallel::Grid& grid, int rank, int keep);

  // First stage, for every step and in order, before Resolve of any later one: posts the receive.
  void Expect(const step::Step& step);
  // Last stage, lane 0: sends what `step` sampled; does not wait.
  void Send(const step::Step& step, const step::StepResult& result);
  // First stage: the step with every awaited token put in its place. Waits for those that are not here yet.
  step::Step Resolve(step::Step step);

 private:
  struct Sampled {
    std::vector<uint64_t> sequences;
    std::vector<int32_t> tokens;
    std::unique_ptr<comm::Transfer> transfer;  // null when complete
  };
  struct Sending {
    std::vector<int32_t> tokens;
    std::vector<std::unique_ptr<comm::Transfer>> transfers;
  };
  Sampled& Arrived(int64_t step);

  comm::Communicator& world_;
  const parallel::Grid grid_;
  const int rank_;
  const int sampler_;  // lane 0 of the last stage
  const size_t keep_;
  std::map<int64_t, Sampled> sampled_;  // by step
  std::deque<Sending> sending_;
};

}  // namespace sluice::pipeline
