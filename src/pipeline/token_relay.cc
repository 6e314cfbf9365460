#include "pipeline/token_relay.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"
#include "comm/damage.h"

namespace sluice::pipeline {
namespace {

// Apart from the tags of the hop, which count passes from 0.
uint64_t TagOf(int64_t step) { return comm::kTagLimit / 2 + static_cast<uint64_t>(step); }

// Behind the tokens of a message.
constexpr size_t kSealTokens = comm::kSealBytes / sizeof(int32_t);

std::vector<uint64_t> SampledSequences(const step::Step& step) {
  std::vector<uint64_t> sequences;
  for (const step::StepSequence& sequence : step.sequences) {
    if (sequence.sample) sequences.push_back(sequence.sequence);
  }
  return sequences;
}

}  // namespace

TokenRelay::TokenRelay(comm::Communicator& world, const parallel::Grid& grid, int rank, int keep)
    : world_(world),
      grid_(grid),
      rank_(rank),
      sampler_(grid.Rank(grid.stages - 1, 0)),
      keep_(static_cast<size_t>(keep)) {}

void TokenRelay::Expect(const step::Step& step) {
  std::vector<uint64_t> sequences = SampledSequences(step);
  if (sequences.empty()) return;
  if (sampled_.size() > keep_) {
    Arrived(sampled_.begin()->first);
    sampled_.erase(sampled_.begin());
  }
  Sampled& sampled = sampled_[step.id];
  sampled.tokens.assign(sequences.size() + kSealTokens, step::kAwaitedToken);
  sampled.sequences = std::move(sequences);
  if (rank_ != sampler_) {
    sampled.transfer =
        world_.Receive(sampler_, TagOf(step.id), std::as_writable_bytes(std::span(sampled.tokens)));
  }
}

void TokenRelay::Send(const step::Step& step, const step::StepResult& result) {
  Sending sending;
  for (const step::SequenceResult& sequence : result.sequences) {
    if (sequence.sampled) sending.tokens.push_back(sequence.token.token);
  }
  if (sending.tokens.empty()) return;
  sending.tokens.resize(sending.tokens.size() + kSealTokens);
  comm::CloseMessage(std::as_writable_bytes(std::span(sending.tokens)), TagOf(step.id));
  for (int lane = 0; lane < grid_.lanes; ++lane) {
    const int to = grid_.Rank(0, lane);
    if (to == rank_) {
      sampled_.at(step.id).tokens = sending.tokens;
    } else {
      sending.transfers.push_back(world_.Send(to, TagOf(step.id), std::as_bytes(std::span(sending.tokens))));
    }
  }
  if (sending.transfers.empty()) return;
  sending_.push_back(std::move(sending));
  if (world_.recorder() != nullptr) world_.recorder()->NoteSampled(step.id);
  while (sending_.size() > keep_) {
    const trace::ScopedSpan span(world_.recorder(), trace::SpanKind::kHopWait);
    const trace::ScopedWait wait(world_.recorder(), "token send", grid_.Rank(0, 0), trace::WaitKind::kSend);
    for (auto& transfer : sending_.front().transfers) transfer->Wait();
    sending_.pop_front();
  }
}

TokenRelay::Sampled& TokenRelay::Arrived(int64_t step) {
  const auto found = sampled_.find(step);
  if (found == sampled_.end()) {
    Fail(ErrorKind::kRankLost, "a row awaits a token of step {}, which this rank no longer or not yet knows",
         step);
  }
  if (found->second.transfer != nullptr) {
    const trace::ScopedSpan span(world_.recorder(), trace::SpanKind::kHopWait);
    const trace::ScopedWait wait(world_.recorder(), "token receive", world_.GlobalRank(sampler_),
                                 trace::WaitKind::kToken,
                                 static_cast<int64_t>(found->second.tokens.size() * sizeof(int32_t)), step);
    found->second.transfer->Wait();
    if (!comm::IsWhole(std::as_bytes(std::span(found->second.tokens)), TagOf(step))) {
      throw comm::PeerError(
          sampler_,
          fmt::format("the tokens of step {} from rank {} are not those it sent: their checksum is wrong",
                      step, sampler_));
    }
    found->second.transfer.reset();
  }
  return found->second;
}

step::Step TokenRelay::Resolve(step::Step step) {
  for (step::StepSequence& sequence : step.sequences) {
    if (sequence.awaits_step < 0) continue;
    const Sampled& sampled = Arrived(sequence.awaits_step);
    const auto at = std::find(sampled.sequences.begin(), sampled.sequences.end(), sequence.sequence);
    if (at == sampled.sequences.end()) {
      Fail(ErrorKind::kRankLost, "sequence {} of step {} awaits a token that step {} does not sample",
           sequence.sequence, step.id, sequence.awaits_step);
    }
    sequence.tokens.front() = sampled.tokens[at - sampled.sequences.begin()];
    sequence.awaits_step = -1;
  }
  return step;
}

}  // namespace sluice::pipeline
