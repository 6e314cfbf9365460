#include "pipeline/hop.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "comm/damage.h"

namespace sluice::pipeline {

int64_t HopLayout::Offset(size_t field, int64_t rows) const {
  int64_t offset = 0;
  for (size_t i = 0; i < field; ++i) {
    offset = CeilDiv(offset, kFieldAlignment) * kFieldAlignment + rows * fields[i].bytes_per_row;
  }
  return field < fields.size() ? CeilDiv(offset, kFieldAlignment) * kFieldAlignment : offset;
}

int64_t HopLayout::RowBytesOf(std::string_view name) const {
  int64_t bytes = 0;
  for (const HopField& field : fields) bytes += field.name == name ? field.bytes_per_row : 0;
  return bytes;
}

Hop::Hop(comm::Communicator& world, const parallel::Grid& grid, int rank, std::vector<HopLayout> layouts,
         int max_in_flight)
    : world_(world),
      grid_(grid),
      stage_(grid.StageOf(rank)),
      upstream_(grid.Rank((stage_ + grid.stages - 1) % grid.stages, grid.LaneOf(rank))),
      downstream_(grid.Rank((stage_ + 1) % grid.stages, grid.LaneOf(rank))),
      layouts_(std::move(layouts)),
      max_in_flight_(max_in_flight) {
  SLUICE_CHECK(std::ssize(layouts_) == int64_t{grid.stages} * grid.virtual_stages);
}

PassId Hop::After(const PassId& pass) const {
  return {pass.step, stage_ + 1 < grid_.stages ? pass.visit : pass.visit + 1};
}

uint64_t Hop::TagOf(const PassId& pass) const {
  return static_cast<uint64_t>(pass.step * grid_.virtual_stages + pass.visit);
}

std::span<std::byte> Hop::MessageIn(const Moving& moving) const {
  return {moving.buffer.data(), static_cast<size_t>(moving.bytes) + SealBytes()};
}

int64_t Hop::MostBuffers(const parallel::Grid& grid, int max_in_flight) {
  return grid.stages == 1 && grid.virtual_stages == 1 ? 1 : max_in_flight + grid.virtual_stages;
}

int64_t Hop::MostBytes(const std::vector<HopLayout>& layouts, const parallel::Grid& grid, int stage,
                       int64_t rows) {
  int64_t most = 0;
  for (size_t own = static_cast<size_t>(stage); own < layouts.size(); own += grid.stages) {
    most = std::max(most, layouts[own].Bytes(rows));
    if (own + 1 < layouts.size()) most = std::max(most, layouts[own + 1].Bytes(rows));
  }
  return most;
}

int64_t Hop::BufferBytes(int64_t rows) const {
  return MostBytes(layouts_, grid_, stage_, rows) + static_cast<int64_t>(SealBytes());
}

void Hop::Reserve(int64_t rows) {
  for (int64_t i = 0; i < MostBuffers(grid_, max_in_flight_); ++i) {
    const Buffer& buffer = free_.emplace_back(BufferBytes(rows), world_.memory());
    if (grid_.stages == 1) continue;
    world_.OfferBuffer(upstream_, {buffer.data(), static_cast<size_t>(buffer.bytes())});
  }
  reserved_ = true;
  reserved_bytes_ = BufferBytes(rows);
}

void Hop::UseStream(WorkStream& stream) {
  SLUICE_CHECK(reserved_, "a hop waits on a stream before its memory is taken");
  stream_ = &stream;
  stream_->SetBeforeFinish([this] { Settle(); });
}

Hop::~Hop() {
  if (stream_ != nullptr) stream_->SetBeforeFinish(nullptr);
}

Buffer Hop::NewBuffer(int64_t rows) {
  const int64_t bytes = BufferBytes(rows);
  if (reserved_ && free_.empty() && !sending_.empty()) FinishOldestSend();
  const auto fits =
      std::find_if(free_.begin(), free_.end(), [&](const Buffer& b) { return b.bytes() >= bytes; });
  if (fits == free_.end()) {
    if (reserved_) {
      Fail(ErrorKind::kInternal,
           "a pass of {} rows asks for {} bytes to hand over, and of {} buffers of {} "
           "bytes that were reserved {} are free",
           rows, bytes, MostBuffers(grid_, max_in_flight_), reserved_bytes_, free_.size());
    }
    return Buffer(bytes, world_.memory());
  }
  Buffer buffer = std::move(*fits);
  free_.erase(fits);
  return buffer;
}

void Hop::Recycle(Buffer buffer) {
  // More free buffers than can be in flight would only be memory that earlier, smaller steps left behind.
  if (!reserved_ && static_cast<int>(free_.size()) >= max_in_flight_) free_.erase(free_.begin());
  free_.push_back(std::move(buffer));
}

std::optional<int64_t> Hop::FieldAt(const PassId& pass, std::string_view name, int64_t rows) const {
  const auto find = [&](const HopLayout& layout) -> std::optional<int64_t> {
    for (size_t i = 0; i < layout.fields.size(); ++i) {
      if (layout.fields[i].name == name) return layout.Offset(i, rows);
    }
    return std::nullopt;
  };
  std::optional<int64_t> comes;
  if (HasUpstream(pass)) comes = find(LayoutBefore(pass));
  if (!HasDownstream(pass)) return comes;
  const std::optional<int64_t> goes = find(LayoutAfter(pass));
  SLUICE_CHECK(!comes || !goes || *comes == *goes, "{} lies elsewhere when it goes on", name);
  return comes ? comes : goes;
}

void Hop::Expect(const PassId& pass, int64_t rows) {
  if (grid_.stages == 1) return;  // Send puts it here
  const int64_t bytes = LayoutBefore(pass).Bytes(rows);
  Moving moving{NewBuffer(rows), nullptr, bytes};
  if (bytes > 0) {
    moving.transfer = stream_ == nullptr
                          ? world_.Receive(upstream_, TagOf(pass), MessageIn(moving))
                          : world_.ReceiveOn(*stream_, upstream_, TagOf(pass), MessageIn(moving));
  }
  expected_.emplace(pass, std::move(moving));
}

bool Hop::AwaitSender(comm::Transfer& transfer, int64_t bytes) {
  const trace::ScopedSpan span(world_.recorder(), trace::SpanKind::kHopWait);
  const trace::ScopedWait wait(world_.recorder(), "hop receive", world_.GlobalRank(upstream_),
                               trace::WaitKind::kHop, bytes);
  return transfer.WaitOn(*stream_);
}

void Hop::AwaitArrival(const PassId& pass, comm::Transfer& transfer, int64_t bytes) {
  const trace::ScopedSpan span(world_.recorder(), trace::SpanKind::kHopWait);
  const trace::ScopedWait wait(world_.recorder(), "hop receive", world_.GlobalRank(upstream_),
                               trace::WaitKind::kHop, bytes);
  const trace::ScopedHop received(world_.recorder(), trace::kRowsReceived, {pass.step, pass.visit},
                                  world_.GlobalRank(upstream_), bytes);
  transfer.Wait();
}

void Hop::CountTaken(int64_t bytes) {
  if (world_.recorder() != nullptr) world_.recorder()->Count(&trace::Counts::taken);
  bytes_received_ += bytes;
}

Buffer Hop::Take(const PassId& pass) {
  Moving moving = std::move(expected_.at(pass));
  expected_.erase(pass);
  if (stream_ != nullptr && moving.transfer != nullptr) {
    // What this host has seen through is counted before it is seen waiting for more.
    if (!moving.transfer->Begun()) Settle();
    if (AwaitSender(*moving.transfer, moving.bytes)) {
      arriving_.push_back({pass, std::move(moving.transfer), moving.bytes});
      return std::move(moving.buffer);
    }
  }
  Settle();  // hops are counted in their order
  if (moving.transfer != nullptr) {
    AwaitArrival(pass, *moving.transfer, moving.bytes);
    if (SealBytes() > 0 && !comm::IsWhole(MessageIn(moving), TagOf(pass))) {
      throw comm::PeerError(
          world_.GlobalRank(upstream_),
          fmt::format("the {} bytes of step {}, pass {} from rank {} are not those it sent: "
                      "their checksum is wrong",
                      moving.bytes, pass.step, pass.visit, world_.GlobalRank(upstream_)));
    }
  }
  CountTaken(moving.bytes);
  return std::move(moving.buffer);
}

void Hop::Settle() {
  while (!arriving_.empty()) {
    AwaitArrival(arriving_.front().pass, *arriving_.front().transfer, arriving_.front().bytes);
    CountTaken(arriving_.front().bytes);
    arriving_.pop_front();
  }
  for (; sent_unsettled_ > 0; --sent_unsettled_) {
    if (world_.recorder() != nullptr) world_.recorder()->Count(&trace::Counts::sent);
  }
}

void Hop::Send(const PassId& pass, int64_t rows, Buffer buffer) {
  if (grid_.stages == 1) {  // the next visit is this rank's own: nothing travels
    expected_.emplace(After(pass), Moving{std::move(buffer), nullptr, 0});
    return;
  }
  while (static_cast<int>(sending_.size()) >= max_in_flight_) FinishOldestSend();
  const HopLayout& layout = LayoutAfter(pass);
  Moving moving{std::move(buffer), nullptr, layout.Bytes(rows)};
  bytes_sent_ += moving.bytes;
  selection_bytes_sent_ += rows * layout.RowBytesOf(kSelection);
  if (moving.bytes > 0) {
    const PassId taker = After(pass);
    const trace::ScopedHop sent(world_.recorder(), trace::kRowsSent, {taker.step, taker.visit},
                                world_.GlobalRank(downstream_), moving.bytes);
    if (SealBytes() > 0) comm::CloseMessage(MessageIn(moving), TagOf(taker));
    moving.transfer = stream_ == nullptr
                          ? world_.Send(downstream_, TagOf(taker), MessageIn(moving))
                          : world_.SendOn(*stream_, downstream_, TagOf(taker), MessageIn(moving));
  }
  sending_.push_back(std::move(moving));
  // Rows computed from what has not come do not leave either; who waits for them must not be told they have.
  ++sent_unsettled_;
  if (arriving_.empty()) Settle();
}

void Hop::FinishOldestSend() {
  Settle();
  Moving moving = std::move(sending_.front());
  sending_.pop_front();
  if (moving.transfer != nullptr) {
    const trace::ScopedSpan span(world_.recorder(), trace::SpanKind::kHopWait);
    const trace::ScopedWait wait(world_.recorder(), "hop send", world_.GlobalRank(downstream_),
                                 trace::WaitKind::kSend, moving.bytes);
    moving.transfer->Wait();
  }
  Recycle(std::move(moving.buffer));
}

void Hop::Abandon() {
  arriving_.clear();
  for (auto& [pass, moving] : expected_) moving.transfer.reset();
  for (Moving& moving : sending_) moving.transfer.reset();
}

void Hop::Flush() {
  while (!sending_.empty()) FinishOldestSend();
}

}  // namespace sluice::pipeline
