#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/sm_budget.h"
#include "comm/communicator.h"
#include "comm/damage.h"
#include "parallel/grid.h"
#include "tensor/tensor.h"

namespace sluice::pipeline {

// What crosses from one stage to the next for each row: named fields, sizes known on both sides. In a message
// each field is a block of all rows, and begins at a multiple of kFieldAlignment bytes.
struct HopField {
  std::string name;
  int64_t bytes_per_row = 0;
};
inline constexpr const char* kHidden = "hidden";        // the residual stream
inline constexpr const char* kSelection = "selection";  // the positions that shared layers attend to
struct HopLayout {
  static constexpr int64_t kFieldAlignment = 16;

  std::vector<HopField> fields;

  // Of a message of `rows` rows: where a field begins, and its length, which is 0 without rows.
  int64_t Offset(size_t field, int64_t rows) const;
  int64_t Bytes(int64_t rows) const { return Offset(fields.size(), rows); }
  // Bytes of a row in the fields of this name; 0 where there is none.
  int64_t RowBytesOf(std::string_view name) const;
};

// A step's visit of a stage. Passes of one rank come in the order in which the controller published them,
// which with virtual stages is not that of the steps.
struct PassId {
  int64_t step = 0;
  int32_t visit = 0;
  auto operator<=>(const PassId&) const = default;
};

// The hand-over of dealt rows: lane c of a stage sends the rows it owns to lane c of the next, rows(lane) x
// the bytes of its fields, nothing gathered and nothing repeated. The stages form a ring: from the last stage
// rows go to the first for the step's next visit. Receives are posted ahead of need, sends are not waited
// for: while a step's rows travel, the next step computes.
//
// With a stream (UseStream), and where the world can, it is the stream that waits for rows, and for what it
// computes before they leave: once the sender's host has put their copy on a stream, this one puts the pass's
// work behind them and goes on. It learns of their arrival when it has to wait for the stream anyway, or has
// nothing else to do (Settle).
class Hop {
 public:
  // This rank's place: the same lane's ranks of the stages before and after are its neighbours in `world`.
  // `layouts`: what enters each virtual stage, in their order; that of the first is not used.
  // max_in_flight: passes of steps in flight; bounds the send buffers held.
  Hop(comm::Communicator& world, const parallel::Grid& grid, int rank, std::vector<HopLayout> layouts,
      int max_in_flight);

  // Buffers it holds at most: one for every pass in flight and, since a rank may still be in a step that is
  // answered, for those of one step more. A rank that hands nothing over has one.
  static int64_t MostBuffers(const parallel::Grid& grid, int max_in_flight);
  // Bytes of one for rows in and out of `stage`; without checksums.
  static int64_t MostBytes(const std::vector<HopLayout>& layouts, const parallel::Grid& grid, int stage,
                           int64_t rows);
  // Takes the memory of all of them now, for passes of up to `rows` rows; no more is taken later.
  void Reserve(int64_t rows);
  // Rows are computed on `stream`, which lives as long as this. After Reserve: freeing memory would wait for
  // streams that wait.
  void UseStream(WorkStream& stream);
  ~Hop();

  // False for the pass that begins with the embedding, and for the one that ends with the head.
  bool HasUpstream(const PassId& pass) const { return stage_ > 0 || pass.visit > 0; }
  bool HasDownstream(const PassId& pass) const {
    return stage_ + 1 < grid_.stages || pass.visit + 1 < grid_.virtual_stages;
  }

  // Whether receives are to be posted while this rank computes what comes before. Where they hold SMs the
  // last stage, on whose result all others wait, has nothing pending then.
  bool PostsAhead() const { return world_.sms_of_receives() == 0 || stage_ + 1 < grid_.stages; }
  // What is held while this rank computes, by rows of later passes or, on the first stage, by the tokens of
  // this one: what pending receives hold on all stages but the last, and nothing on one stage alone.
  SmBudget budget() const { return {stage_ + 1 < grid_.stages ? world_.sms_of_receives() : 0}; }

  // Where a field begins in the buffer of a pass that it comes to or goes on from, with which it has the same
  // place; nothing where it does neither.
  std::optional<int64_t> FieldAt(const PassId& pass, std::string_view name, int64_t rows) const;

  // Posts the receive of a pass that is to come; each once.
  void Expect(const PassId& pass, int64_t rows);
  // True once Expect was called for the pass and Take was not.
  bool Expects(const PassId& pass) const { return expected_.contains(pass); }
  // Waits for the rows of a pass, on the stream if there is one and they are on their way, and hands over
  // their buffer.
  Buffer Take(const PassId& pass);
  // Waits on the host until all rows taken have arrived: nothing that was computed from them is to be
  // believed before. Throws what Take throws without a stream.
  void Settle();
  // A buffer for `rows` rows, and their checksum behind them, that may be sent, or given back by Recycle.
  // After Reserve, when all are taken, the oldest send is waited for: it is of a step that is over. Throws
  // Error(kInternal) for more rows than were reserved for.
  Buffer NewBuffer(int64_t rows);
  // Starts sending what a pass computed; blocks only when max_in_flight sends are still under way.
  void Send(const PassId& pass, int64_t rows, Buffer buffer);
  void Recycle(Buffer buffer);
  // Waits until everything sent has arrived.
  void Flush();
  // Waits until no transfer uses a buffer, or its limit has passed; for who has given up.
  void Abandon();

  // Of rows, without checksums. Counted before a send is posted and after a receive is complete; readable
  // from any thread.
  int64_t bytes_sent() const { return bytes_sent_; }
  int64_t bytes_received() const { return bytes_received_; }
  // Of these, what lay in fields named kSelection.
  int64_t selection_bytes_sent() const { return selection_bytes_sent_; }

 private:
  struct Moving {
    Buffer buffer;
    std::unique_ptr<comm::Transfer> transfer;  // null when the lane has no rows
    int64_t bytes = 0;
  };
  // Rows for which the stream waits.
  struct Arriving {
    PassId pass;
    std::unique_ptr<comm::Transfer> transfer;
    int64_t bytes = 0;
  };
  bool AwaitSender(comm::Transfer& transfer, int64_t bytes);
  void AwaitArrival(const PassId& pass, comm::Transfer& transfer, int64_t bytes);
  void CountTaken(int64_t bytes);
  void FinishOldestSend();
  // The rows, and behind them the seal (comm/damage.h) that travels with them. Rows in a device's memory have
  // none: they do not pass through the host, which would have to compute it.
  std::span<std::byte> MessageIn(const Moving& moving) const;
  size_t SealBytes() const { return world_.memory().OnHost() ? comm::kSealBytes : 0; }

  // The pass of the next stage that works on what `pass` computed.
  PassId After(const PassId& pass) const;
  // What enters the virtual stage of `pass`, and the one after it.
  const HopLayout& LayoutBefore(const PassId& pass) const { return layouts_[VirtualStageOf(pass)]; }
  const HopLayout& LayoutAfter(const PassId& pass) const { return layouts_[VirtualStageOf(pass) + 1]; }
  size_t VirtualStageOf(const PassId& pass) const {
    return static_cast<size_t>(pass.visit) * grid_.stages + stage_;
  }
  int64_t BufferBytes(int64_t rows) const;
  uint64_t TagOf(const PassId& pass) const;

  comm::Communicator& world_;
  const parallel::Grid grid_;
  const int stage_;
  const int upstream_;
  const int downstream_;
  std::vector<HopLayout> layouts_;
  int max_in_flight_;
  bool reserved_ = false;
  int64_t reserved_bytes_ = 0;  // of one buffer
  WorkStream* stream_ = nullptr;
  std::map<PassId, Moving> expected_;
  std::deque<Arriving> arriving_;  // in the order of the passes
  int sent_unsettled_ = 0;         // passes sent since then, which wait for those rows like the stream
  std::deque<Moving> sending_;
  std::vector<Buffer> free_;
  std::atomic<int64_t> bytes_sent_ = 0;
  std::atomic<int64_t> bytes_received_ = 0;
  std::atomic<int64_t> selection_bytes_sent_ = 0;
};

}  // namespace sluice::pipeline
