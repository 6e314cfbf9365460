#include "model/pass.h"

#include <numeric>

namespace sluice::model {

std::span<std::byte> BytesOf(const Tensor& tensor) {
  SLUICE_CHECK(tensor.contiguous());
  return {static_cast<std::byte*>(tensor.data), static_cast<size_t>(tensor.bytes())};
}

namespace {

void GatherFrom(comm::Communicator& group, std::string_view op, const Tensor& mine,
                const std::vector<int64_t>& rows, const Tensor& all) {
  std::vector<int64_t> bytes;
  bytes.reserve(rows.size());
  for (const int64_t count : rows) bytes.push_back(count * mine.cols * SizeOf(mine.dtype));
  group.AllGather(op, BytesOf(mine), BytesOf(all), bytes);
}

}  // namespace

Pass::Pass(const step::Step& step, comm::Communicator& lanes, comm::Communicator* heads,
           parallel::SplitMode mode, ops::Ops& ops, Arena& arena)
    : lanes_(lanes),
      heads_(heads),
      ops_(ops),
      arena_(arena),
      split_(step.RowsOfSequences(), lanes.size(), mode),
      tokens_(step.Tokens()) {
  const std::vector<ops::RowPlace> places = step.Places();
  gathered_.reserve(places.size());
  size_t first_of_heads = 0;
  for (int lane = 0; lane < lanes.size(); ++lane) {
    if (heads_ != nullptr && lane == this->lane() - heads_->rank()) first_of_heads = gathered_.size();
    for (const int32_t row : split_.RowsOf(lane)) gathered_.push_back(places[row]);
  }
  for (const int32_t row : split_.RowsOf(lane())) mine_.push_back(places[row]);
  of_heads_ = mine_;
  if (heads_ != nullptr) {
    const std::vector<int64_t> rows = RowsOfHeads();
    of_heads_ = std::span(gathered_).subspan(
        first_of_heads, static_cast<size_t>(std::accumulate(rows.begin(), rows.end(), int64_t{0})));
  }
  for (const auto& sequence : step.sequences) pages_.emplace_back(sequence.pages);
}

std::vector<int64_t> Pass::RowsOfLanes() const {
  std::vector<int64_t> rows;
  for (int lane = 0; lane < lanes_.size(); ++lane) rows.push_back(split_.CountOf(lane));
  return rows;
}

std::vector<int64_t> Pass::RowsOfHeads() const {
  if (heads_ == nullptr) return {rows()};
  const int first = lane() - heads_->rank();
  std::vector<int64_t> rows;
  for (int shard = 0; shard < heads_->size(); ++shard) rows.push_back(split_.CountOf(first + shard));
  return rows;
}

Tensor Pass::Gather(std::string_view op, const Tensor& mine) const { return BeginGather(op, mine).End(); }

Pass::Gathering Pass::BeginGather(std::string_view op, const Tensor& mine) const {
  if (lanes_.size() == 1) return {*this, op, mine, mine, nullptr};
  return {*this, op, mine, New(mine.dtype, split_.rows(), mine.cols), ops_.Mark()};
}

Tensor Pass::Gathering::End() const {
  if (pass_.lanes_.size() == 1) return all_;
  const comm::Communicator::Behind made(pass_.lanes_, made_.get());
  GatherFrom(pass_.lanes_, op_, mine_, pass_.RowsOfLanes(), all_);
  return all_;
}

Tensor Pass::GatherHeads(std::string_view op, const Tensor& mine) const {
  if (heads_ == nullptr) return mine;
  const Tensor all = New(mine.dtype, std::ssize(of_heads_), mine.cols);
  GatherHeads(op, mine, all);
  return all;
}

ops::Activation Pass::Gather(std::string_view op, const ops::Activation& mine) const {
  ops::Activation all;
  if (mine.forms().values) all.values = Gather(op, mine.values);
  if (mine.forms().quantized) all.quantized = Gather(op, mine.quantized);
  return all;
}

ops::Activation Pass::GatherHeads(std::string_view op, const ops::Activation& mine) const {
  ops::Activation all;
  if (mine.forms().values) all.values = GatherHeads(op, mine.values);
  if (mine.forms().quantized) all.quantized = GatherHeads(op, mine.quantized);
  return all;
}

void Pass::GatherHeads(std::string_view op, const Tensor& mine, const Tensor& all) const {
  GatherFrom(*heads_, op, mine, RowsOfHeads(), all);
}

}  // namespace sluice::model
