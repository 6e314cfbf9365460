#include "comm/nccl/nccl_world.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "comm/nccl/nccl_rank.h"

namespace sluice::comm {
namespace {

// How long a rank is asked whether it is alive, once something did not end in time.
constexpr std::chrono::milliseconds kAnswerLimit{300};

bool AllEqual(std::span<const int64_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [&](int64_t part) { return part == bytes[0]; });
}

ncclResult_t CopyOwn(std::span<const std::byte> from, std::span<std::byte> to, cudaStream_t stream) {
  if (from.empty() || from.data() == to.data()) return ncclSuccess;
  const cudaError_t error =
      cudaMemcpyAsync(to.data(), from.data(), from.size(), cudaMemcpyDeviceToDevice, stream);
  return error == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

// All at once, so that no order among them matters; the own part is copied.
ncclResult_t Exchange(ncclComm_t comm, int rank, std::span<const std::span<const std::byte>> send,
                      std::span<const std::span<std::byte>> receive, cudaStream_t stream) {
  ncclResult_t result = CopyOwn(send[rank], receive[rank], stream);
  if (result != ncclSuccess) return result;
  ncclGroupStart();
  const int size = static_cast<int>(send.size());
  for (int step = 1; step < size && (result == ncclSuccess || result == ncclInProgress); ++step) {
    const int to = (rank + step) % size;
    const int from = (rank + size - step) % size;
    if (!send[to].empty()) result = ncclSend(send[to].data(), send[to].size(), ncclUint8, to, comm, stream);
    if (result != ncclSuccess && result != ncclInProgress) break;
    if (!receive[from].empty()) {
      result = ncclRecv(receive[from].data(), receive[from].size(), ncclUint8, from, comm, stream);
    }
  }
  const ncclResult_t ended = ncclGroupEnd();
  return result == ncclSuccess || result == ncclInProgress ? ended : result;
}

}  // namespace

NcclWindow::~NcclWindow() {
  if (window_ == nullptr) return;
  const Deadline deadline = Clock::now() + std::chrono::seconds(2);
  comm_->Run([&](ncclComm_t comm) { return ncclCommWindowDeregister(comm, window_); },
             [&] { return Clock::now() >= deadline; });
}

NcclCommunicator::NcclCommunicator(std::shared_ptr<NcclRank> rank, std::shared_ptr<GroupCounts> counts,
                                   std::vector<int> members, int place)
    : GroupCommunicator(rank, std::move(counts), std::move(members), place), self_(std::move(rank)) {}

NcclCommunicator::~NcclCommunicator() = default;

std::unique_ptr<NcclCommunicator> NcclCommunicator::Split(std::span<const int> members) {
  Place place = PlaceAmong(members);
  return std::make_unique<NcclCommunicator>(self_, counts(), std::move(place.members), place.rank);
}

std::unique_ptr<Communicator> NcclCommunicator::Subgroup(std::span<const int> members) {
  return Split(members);
}

void NcclCommunicator::CheckAllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                                      std::span<const int64_t> bytes) const {
  SLUICE_CHECK(static_cast<int>(bytes.size()) == size(), "{} sizes for {} ranks", bytes.size(), size());
  SLUICE_CHECK(bytes[rank()] == static_cast<int64_t>(mine.size()), "{} bytes announced, {} given",
               bytes[rank()], mine.size());
  SLUICE_CHECK(std::accumulate(bytes.begin(), bytes.end(), int64_t{0}) == static_cast<int64_t>(all.size()),
               "the parts do not fill {} bytes", all.size());
  self_->RequireDevice("all-gather", mine);
  self_->RequireDevice("all-gather", all);
}

void NcclCommunicator::CheckAllToAll(std::span<const std::span<const std::byte>> send,
                                     std::span<const std::span<std::byte>> receive) const {
  SLUICE_CHECK(static_cast<int>(send.size()) == size() && static_cast<int>(receive.size()) == size(),
               "{} parts to send, {} to receive, {} ranks", send.size(), receive.size(), size());
  SLUICE_CHECK(send[rank()].size() == receive[rank()].size(), "the own part has {} and {} bytes",
               send[rank()].size(), receive[rank()].size());
  for (const auto& part : send) self_->RequireDevice("all-to-all", part);
  for (const auto& part : receive) self_->RequireDevice("all-to-all", part);
}

void NcclCommunicator::Arrive() {
  self_->ThrowIfFailed();
  ++begun_;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) self_->TellArrived(members()[peer], ordinals()[peer], begun_);
  }
}

// The host's form: everybody is here before anything is launched.
void NcclCommunicator::AwaitAll(std::string_view op) {
  Arrive();
  const Deadline deadline = self_->NewDeadline();
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    const trace::ScopedWait wait(recorder_, std::string(op), GlobalRank(peer), trace::WaitKind::kCollective);
    self_->AwaitArrived(members()[peer], ordinals()[peer], begun_, op, deadline);
  }
}

// The first member that has not begun what this one has; this rank's own place when all have.
int NcclCommunicator::FirstMissing() const {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank() && !self_->HasArrived(members()[peer], ordinals()[peer], begun_)) return peer;
  }
  return rank();
}

std::string NcclCommunicator::NotEnded(std::string_view op) const {
  const int missing = FirstMissing();
  if (missing != rank()) {
    return fmt::format("rank {} did not come to \"{}\" {}", GlobalRank(missing), op, self_->TooLate());
  }
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank() || self_->Answers(members()[peer], kAnswerLimit)) continue;
    return fmt::format("rank {} does not answer, and \"{}\" did not end {}", GlobalRank(peer), op,
                       self_->TooLate());
  }
  return fmt::format("\"{}\" did not end {}, although ranks {} have all begun it and answer", op,
                     self_->TooLate(), fmt::join(members(), ", "));
}

void NcclCommunicator::Connect() {
  if (comm_ != nullptr || size() == 1) return;
  const Deadline deadline = self_->NewDeadline();
  ncclUniqueId id;
  if (rank() == 0) {
    id = NewNcclId();
    for (int peer = 1; peer < size(); ++peer) self_->TellGroupId(members()[peer], ordinals()[peer], id);
  } else {
    id = self_->AwaitGroupId(members()[0], ordinals()[0], deadline);
  }
  comm_ = self_->MakeComm(id, members(), rank(), deadline, [&] { return NotEnded("connect"); });
}

void NcclCommunicator::ConnectTransfers() {
  SLUICE_CHECK(size() == 2, "transfers on a stream are for groups of two, this one has {}", size());
  const DeviceScope scope(self_->config().device);
  const NcclMemory byte(2);
  const std::array<std::span<std::byte>, 2> one = {byte.bytes().first(1), byte.bytes().last(1)};
  std::array<std::span<const std::byte>, 2> send = {one[rank()], one[rank()]};
  std::array<std::span<std::byte>, 2> receive = {one[1 - rank()], one[1 - rank()]};
  send[rank()] = {};
  receive[rank()] = {};
  AllToAll("connect transfers", send, receive);
}

NcclCommunicator::Event NcclCommunicator::Launch(const std::function<ncclResult_t(ncclComm_t)>& enqueue,
                                                 cudaStream_t stream) {
  const DeviceScope scope(self_->config().device);
  if (size() == 1) {
    SLUICE_CHECK(enqueue(nullptr) == ncclSuccess, "a copy was refused");
  } else {
    Connect();
    self_->Launch(*comm_, enqueue, self_->NewDeadline(), [&] { return NotEnded("launch"); });
  }
  auto event = std::make_shared<DeviceEvent>();
  CheckCuda(cudaEventRecord(event->get(), stream), "cudaEventRecord");
  return event;
}

NcclCommunicator::Event NcclCommunicator::PutAllGather(std::span<const std::byte> mine,
                                                       std::span<std::byte> all,
                                                       std::span<const int64_t> bytes, cudaStream_t stream) {
  const auto others = static_cast<int64_t>(size() - 1);
  bytes_sent_ += static_cast<int64_t>(mine.size()) * others;
  bytes_received_ += static_cast<int64_t>(all.size() - mine.size());
  if (size() > 1 && AllEqual(bytes)) {
    return Launch(
        [&](ncclComm_t comm) {
          return ncclAllGather(mine.data(), all.data(), mine.size(), ncclUint8, comm, stream);
        },
        stream);
  }
  const std::vector<std::span<const std::byte>> send(static_cast<size_t>(size()), mine);
  std::vector<std::span<std::byte>> receive;
  for (const int64_t part : bytes) {
    receive.push_back(all.first(static_cast<size_t>(part)));
    all = all.subspan(static_cast<size_t>(part));
  }
  return Launch([&](ncclComm_t comm) { return Exchange(comm, rank(), send, receive, stream); }, stream);
}

NcclCommunicator::Event NcclCommunicator::PutAllToAll(std::span<const std::span<const std::byte>> send,
                                                      std::span<const std::span<std::byte>> receive,
                                                      cudaStream_t stream) {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    bytes_sent_ += static_cast<int64_t>(send[peer].size());
    bytes_received_ += static_cast<int64_t>(receive[peer].size());
  }
  return Launch([&](ncclComm_t comm) { return Exchange(comm, rank(), send, receive, stream); }, stream);
}

void NcclCommunicator::AllGather(std::string_view op, std::span<const std::byte> mine,
                                 std::span<std::byte> all, std::span<const int64_t> bytes) {
  CheckAllGather(mine, all, bytes);
  const trace::ScopedSpan span(recorder_, trace::SpanKind::kCollective, op,
                               static_cast<int64_t>(all.size() - mine.size()));
  if (recorder_ != nullptr) recorder_->Count(&trace::Counts::collectives);
  Fence();
  AwaitAll(op);
  if (all.empty()) return;
  const DeviceScope scope(self_->config().device);
  if (stream_ == nullptr) stream_ = std::make_unique<DeviceStream>();
  Await(op, PutAllGather(mine, all, bytes, stream_->get()));
}

void NcclCommunicator::AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                                std::span<const std::span<std::byte>> receive) {
  CheckAllToAll(send, receive);
  int64_t received = 0;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) received += static_cast<int64_t>(receive[peer].size());
  }
  const trace::ScopedSpan span(recorder_, trace::SpanKind::kCollective, op, received);
  if (recorder_ != nullptr) recorder_->Count(&trace::Counts::collectives);
  Fence();
  AwaitAll(op);
  const DeviceScope scope(self_->config().device);
  if (stream_ == nullptr) stream_ = std::make_unique<DeviceStream>();
  Await(op, PutAllToAll(send, receive, stream_->get()));
}

void NcclCommunicator::Barrier(std::string_view op) {
  const trace::ScopedSpan span(recorder_, trace::SpanKind::kCollective, op);
  if (recorder_ != nullptr) recorder_->Count(&trace::Counts::collectives);
  AwaitAll(op);
}

NcclCommunicator::Event NcclCommunicator::EnqueueAllGather(std::span<const std::byte> mine,
                                                           std::span<std::byte> all,
                                                           std::span<const int64_t> bytes,
                                                           cudaStream_t stream) {
  CheckAllGather(mine, all, bytes);
  Arrive();
  return PutAllGather(mine, all, bytes, stream);
}

NcclCommunicator::Event NcclCommunicator::EnqueueAllToAll(std::span<const std::span<const std::byte>> send,
                                                          std::span<const std::span<std::byte>> receive,
                                                          cudaStream_t stream) {
  CheckAllToAll(send, receive);
  Arrive();
  return PutAllToAll(send, receive, stream);
}

NcclCommunicator::Event NcclCommunicator::EnqueueEqualAllToAll(std::span<const std::byte> send,
                                                               std::span<std::byte> receive,
                                                               cudaStream_t stream) {
  const size_t part = send.size() / static_cast<size_t>(size());
  SLUICE_CHECK(send.size() == receive.size() && part * static_cast<size_t>(size()) == send.size(),
               "{} bytes to send and {} to receive in {} equal parts", send.size(), receive.size(), size());
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
  if (size() > 1) {
    self_->RequireDevice("all-to-all", send);
    self_->RequireDevice("all-to-all", receive);
    Arrive();
    bytes_sent_ += static_cast<int64_t>(send.size() - part);
    bytes_received_ += static_cast<int64_t>(send.size() - part);
    return Launch(
        [&](ncclComm_t comm) {
          return ncclAlltoAll(send.data(), receive.data(), part, ncclUint8, comm, stream);
        },
        stream);
  }
#endif
  std::vector<std::span<const std::byte>> out;
  std::vector<std::span<std::byte>> in;
  for (int peer = 0; peer < size(); ++peer) {
    out.push_back(send.subspan(static_cast<size_t>(peer) * part, part));
    in.push_back(receive.subspan(static_cast<size_t>(peer) * part, part));
  }
  return EnqueueAllToAll(out, in, stream);
}

NcclCommunicator::Event NcclCommunicator::EnqueueSend(std::span<const std::byte> buffer,
                                                      cudaStream_t stream) {
  SLUICE_CHECK(size() == 2, "a send on a stream is for groups of two, this one has {}", size());
  self_->RequireDevice("send", buffer);
  Arrive();
  bytes_sent_ += static_cast<int64_t>(buffer.size());
  return Launch(
      [&](ncclComm_t comm) {
        return ncclSend(buffer.data(), buffer.size(), ncclUint8, 1 - rank(), comm, stream);
      },
      stream);
}

NcclCommunicator::Event NcclCommunicator::EnqueueReceive(std::span<std::byte> buffer, cudaStream_t stream) {
  SLUICE_CHECK(size() == 2, "a receive on a stream is for groups of two, this one has {}", size());
  self_->RequireDevice("receive", buffer);
  Arrive();
  bytes_received_ += static_cast<int64_t>(buffer.size());
  return Launch(
      [&](ncclComm_t comm) {
        return ncclRecv(buffer.data(), buffer.size(), ncclUint8, 1 - rank(), comm, stream);
      },
      stream);
}

void NcclCommunicator::Await(std::string_view op, const Event& event) {
  if (size() == 1) {
    CheckCuda(cudaEventSynchronize(event->get()), "cudaEventSynchronize");
    return;
  }
  // Once all have come it is the devices that work.
  const int missing = FirstMissing();
  const bool all_here = missing == rank();
  const trace::ScopedWait wait(recorder_, std::string(op), all_here ? -1 : GlobalRank(missing),
                               all_here ? trace::WaitKind::kOwn : trace::WaitKind::kCollective);
  self_->AwaitEvent(event->get(), *comm_, self_->NewDeadline(), [&] { return NotEnded(op); });
}

std::unique_ptr<NcclWindow> NcclCommunicator::RegisterWindow(std::span<std::byte> memory) {
  self_->RequireDevice("window", memory);
  AwaitAll("register window");
  if (size() == 1) return std::make_unique<NcclWindow>(nullptr);
  Connect();
  auto window = std::make_unique<NcclWindow>(comm_);
  self_->Launch(
      *comm_,
      [&](ncclComm_t comm) {
        return ncclCommWindowRegister(comm, memory.data(), memory.size(), window->handle(),
                                      NCCL_WIN_COLL_SYMMETRIC);
      },
      self_->NewDeadline(), [&] { return NotEnded("register window"); });
  return window;
}

std::unique_ptr<NcclCommunicator> MakeNcclWorld(int rank, int size, KeyValueStore& store,
                                                const std::string& bind, const NcclConfig& config,
                                                Duration timeout) {
  CheckNcclConfig(config, rank);
  auto self = std::make_shared<NcclRank>(rank, size, store, bind, config, timeout);
  std::vector<int> members(static_cast<size_t>(size));
  std::iota(members.begin(), members.end(), 0);
  return std::make_unique<NcclCommunicator>(std::move(self), std::make_shared<GroupCounts>(size),
                                            std::move(members), rank);
}

}  // namespace sluice::comm
