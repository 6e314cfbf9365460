#include "comm/communicator.h"

#include <numeric>
#include <string>

#include "base/error.h"

namespace sluice::comm {

std::unique_ptr<Transfer> Communicator::SendOn(WorkStream&, int to, uint64_t tag,
                                               std::span<const std::byte> buffer) {
  return Send(to, tag, buffer);
}

std::unique_ptr<Transfer> Communicator::ReceiveOn(WorkStream&, int from, uint64_t tag,
                                                  std::span<std::byte> buffer) {
  return Receive(from, tag, buffer);
}

void Communicator::AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                             std::span<const int64_t> bytes) {
  SLUICE_CHECK(static_cast<int>(bytes.size()) == size(), "{}: {} sizes for {} ranks", op, bytes.size(),
               size());
  SLUICE_CHECK(bytes[rank()] == static_cast<int64_t>(mine.size()), "{}: {} bytes announced, {} given", op,
               bytes[rank()], mine.size());
  SLUICE_CHECK(std::accumulate(bytes.begin(), bytes.end(), int64_t{0}) == static_cast<int64_t>(all.size()),
               "{}: the parts do not fill {} bytes", op, all.size());
  const std::vector<std::span<const std::byte>> send(static_cast<size_t>(size()), mine);
  std::vector<std::span<std::byte>> receive;
  receive.reserve(send.size());
  for (const int64_t part : bytes) {
    receive.push_back(all.first(static_cast<size_t>(part)));
    all = all.subspan(static_cast<size_t>(part));
  }
  Mesh(op, send, receive);
}

void Communicator::AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                            std::span<const std::span<std::byte>> receive) {
  SLUICE_CHECK(static_cast<int>(send.size()) == size() && static_cast<int>(receive.size()) == size(),
               "{}: {} parts to send, {} to receive, {} ranks", op, send.size(), receive.size(), size());
  SLUICE_CHECK(send[rank()].size() == receive[rank()].size(), "{}: the own part has {} and {} bytes", op,
               send[rank()].size(), receive[rank()].size());
  Mesh(op, send, receive);
}

// One byte to everybody: who has everybody's byte knows that everybody has arrived.
void Communicator::Barrier(std::string_view op) {
  const std::byte here{1};
  const std::vector<std::span<const std::byte>> send(static_cast<size_t>(size()), std::span(&here, 1));
  std::vector<std::byte> arrived(static_cast<size_t>(size()));
  std::vector<std::span<std::byte>> receive;
  receive.reserve(arrived.size());
  for (std::byte& byte : arrived) receive.emplace_back(&byte, 1);
  Mesh(op, send, receive);
}

void Communicator::Mesh(std::string_view op, std::span<const std::span<const std::byte>> send,
                        std::span<const std::span<std::byte>> receive) {
  const uint64_t tag = kTagLimit + collectives_++ % kTagLimit;
  int64_t received = 0;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) received += static_cast<int64_t>(receive[peer].size());
  }
  const trace::ScopedSpan span(recorder_, trace::SpanKind::kCollective, op, received);
  if (recorder_ != nullptr) recorder_->Count(&trace::Counts::collectives);
  std::vector<std::unique_ptr<Transfer>> receives(receive.size());
  std::vector<std::unique_ptr<Transfer>> sends(send.size());
  // Receives first: a send that finds its receive posted needs no second look.
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank() && !receive[peer].empty()) receives[peer] = Receive(peer, tag, receive[peer]);
  }
  // Everybody begins with its right neighbour, so that not all ranks send to rank 0 at once.
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    if (!send[peer].empty()) sends[peer] = Send(peer, tag, send[peer]);
  }
  const auto& own = send[rank()];
  if (!own.empty() && own.data() != receive[rank()].data()) {
    Fence();
    memory().Copy(own.data(), receive[rank()].data(), static_cast<int64_t>(own.size()));
  }
  for (int peer = 0; peer < size(); ++peer) {
    const auto await = [&](Transfer& transfer, trace::WaitKind kind, size_t bytes) {
      const trace::ScopedWait wait(recorder_, std::string(op), GlobalRank(peer), kind,
                                   static_cast<int64_t>(bytes));
      transfer.Wait();
    };
    if (receives[peer] != nullptr) await(*receives[peer], trace::WaitKind::kCollective, receive[peer].size());
    if (sends[peer] != nullptr) await(*sends[peer], trace::WaitKind::kSend, send[peer].size());
  }
}

}  // namespace sluice::comm
