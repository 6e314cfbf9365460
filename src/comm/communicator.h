#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "tensor/memory.h"
#include "trace/recorder.h"

namespace sluice::comm {

// Tags of Send and Receive are below this; the collectives and the group a transfer belongs to take the bits
// above.
inline constexpr uint64_t kTagLimit = uint64_t{1} << 47;

// A transfer under way. The buffer it names must stay untouched (receive) or unchanged (send) until Wait
// returns. Destroying an unfinished transfer waits for it or, after Abort, detaches it from the buffer.
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Blocks without spinning until the transfer is complete. Throws Error(kRankLost), naming the peer, when
  // the communicator's time limit passes, the peer is gone, or the communicator was aborted; when the peer
  // gave up because another rank was lost, the sentence names that one. The limit counts from the call of
  // Wait: a receive may be posted long ahead of need. After one wait has failed the rank's communicators are
  // spent: every later wait throws the first failure's sentence, and what others wait for from this rank ends
  // as well.
  virtual void Wait() = 0;
  // Of a receive: blocks until the peer has put what it sends on its stream, and has `stream` wait for the
  // rest: what is put there from now on finds the transfer complete. Throws as Wait does. False, and nothing
  // done, where only the host can wait. That the transfer is complete Wait alone says.
  virtual bool WaitOn(WorkStream&) { return false; }
  // Whether WaitOn would not block now.
  virtual bool Begun() { return true; }
};

// One that moves nothing, and so is complete.
class NoTransfer final : public Transfer {
 public:
  void Wait() override {}
};

// Bytes between the ranks of one group. A back end supplies Send and Receive; the collectives are a mesh of
// them, written once here, and a back end with better ones overrides them. One thread per rank calls; one
// more may call Send at the same time (MakeDelayed does), and Abort and the counters are for any thread.
// Ranks are group ranks 0..size-1; GlobalRank gives the rank of the world, which is what waits are named by.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int GlobalRank(int group_rank) const = 0;

  // Starts a transfer of exactly buffer.size() bytes (0 is legal). A send meets the receive of the same tag
  // between the same two ranks; equal tags in flight between two ranks match in order. Sizes must agree.
  // `to` and `from` are other ranks; an empty transfer is complete at once and synchronises nothing.
  virtual std::unique_ptr<Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) = 0;
  virtual std::unique_ptr<Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) = 0;

  // The stream's form: the buffer is as it should be when what `stream` holds now is done, and the host does
  // not wait for that. A pair of ranks posts such transfers in the same order on both sides, in this form on
  // both. By default the host's form.
  virtual std::unique_ptr<Transfer> SendOn(WorkStream& stream, int to, uint64_t tag,
                                           std::span<const std::byte> buffer);
  virtual std::unique_ptr<Transfer> ReceiveOn(WorkStream& stream, int from, uint64_t tag,
                                              std::span<std::byte> buffer);

  // At start, for back ends that write into a receiver's memory: what `from` sends in the stream's form may
  // come to `buffer`, all of what one Memory::Allocate of memory() returned, until this rank ends. ReceiveOn
  // then takes buffers that begin where one of these does.
  virtual void OfferBuffer(int /*from*/, std::span<std::byte> /*buffer*/) {}

  // The group made of `members` (group ranks of this one, ascending, this rank among them). Every member must
  // call with the same list, in the same order relative to other Subgroup calls; no bytes move.
  virtual std::unique_ptr<Communicator> Subgroup(std::span<const int> members) = 0;

  // Every wait now and later throws Error(kRankLost) with `reason`, on this rank and, where the back end can
  // reach them, on the others. The first reason stays. Thread-safe; called by the watchdog.
  virtual void Abort(std::string_view reason) = 0;

  // all = mine of rank 0 | mine of rank 1 | ...; bytes[r] is the size of rank r's part, bytes[rank()] ==
  // mine.size(). `op` names the wait ("all-gather latents").
  virtual void AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                         std::span<const int64_t> bytes);

  // Sends send[r] to rank r and receives receive[r] from it, for all r at once; the part for itself is
  // copied. Sizes are known to both sides beforehand: receive[r].size() here equals send[rank()].size() on r.
  // Empty parts move nothing.
  virtual void AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                        std::span<const std::span<std::byte>> receive);

  virtual void Barrier(std::string_view op);

  // Bytes this rank has sent to others and received from them since the start, by everything above, through
  // this object: a subgroup counts its own.
  virtual int64_t bytes_sent() const { return bytes_sent_; }
  virtual int64_t bytes_received() const { return bytes_received_; }

  // Where the buffers that it is given lie.
  virtual Memory& memory() { return HostMemory(); }
  // How many SMs of this rank's GPU its pending receives hold, all of them together. None where they wait on
  // the host or are carried by copy engines.
  virtual int sms_of_receives() const { return 0; }
  // True where the first transfer to a rank or in a group makes what it needs (connections, buffers): a rank
  // that must not run out of memory later begins with one of each kind.
  virtual bool ConnectsWhenUsed() const { return false; }
  // Called before a transfer of the host's form starts: returns when the buffers of this rank are as the
  // calls before it left them, for back ends that only enqueue their work: as those before a mark did, where
  // one is given (Ops::FinishUpTo).
  using FenceCall = std::function<void(const StreamMark*)>;
  void SetFence(FenceCall fence) { fence_ = std::move(fence); }

  // Until its end transfers that start wait for what stood before `mark` alone, and what was enqueued since
  // is done meanwhile: it must touch none of their buffers. Null: for everything.
  class Behind {
   public:
    Behind(Communicator& group, const StreamMark* mark) : group_(group) { group_.mark_ = mark; }
    ~Behind() { group_.mark_ = nullptr; }
    Behind(const Behind&) = delete;
    Behind& operator=(const Behind&) = delete;

   private:
    Communicator& group_;
  };

  // Names this rank's waits; may be null.
  void SetRecorder(trace::Recorder* recorder) { recorder_ = recorder; }
  trace::Recorder* recorder() const { return recorder_; }

 protected:
  void Fence() const {
    if (fence_) fence_(mark_);
  }

  std::atomic<int64_t> bytes_sent_ = 0;
  std::atomic<int64_t> bytes_received_ = 0;
  trace::Recorder* recorder_ = nullptr;

 private:
  void Mesh(std::string_view op, std::span<const std::span<const std::byte>> send,
            std::span<const std::span<std::byte>> receive);

  FenceCall fence_;
  const StreamMark* mark_ = nullptr;
  uint64_t collectives_ = 0;  // counted alike on every rank: the tag of the next collective
};

}  // namespace sluice::comm
