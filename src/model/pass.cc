#include "model/pass.h"

namespace sluice::model {

std::span<std::byte> BytesOf(const Tensor& tensor) {
  SLUICE_CHECK(tensor.contiguous());
  return {static_cast<std::byte*>(tensor.data), static_cast<size_t>(tensor.bytes())};
}

Pass::Pass(const step::Step& step, comm::Communicator& lanes, parallel::SplitMode mode, ops::Ops& ops,
           Arena& arena)
    : lanes_(lanes),
      ops_(ops),
      arena_(arena),
      split_(step.RowsOfSequences(), lanes.size(), mode),
      tokens_(step.Tokens()) {
  const std::vector<ops::RowPlace> places = step.Places();
  gathered_.reserve(places.size());
  for (int lane = 0; lane < lanes.size(); ++lane) {
    for (const int32_t row : split_.RowsOf(lane)) gathered_.push_back(places[row]);
  }
  for (const int32_t row : split_.RowsOf(lane())) mine_.push_back(places[row]);
  for (const auto& sequence : step.sequences) pages_.emplace_back(sequence.pages);
}

Tensor Pass::Gather(std::string_view op, const Tensor& mine) const {
  if (lanes_.size() == 1) return mine;
  const Tensor all = New(mine.dtype, split_.rows(), mine.cols);
  std::vector<int64_t> bytes;
  bytes.reserve(lanes_.size());
  for (int lane = 0; lane < lanes_.size(); ++lane) {
    bytes.push_back(split_.CountOf(lane) * mine.cols * SizeOf(mine.dtype));
  }
  lanes_.AllGather(op, BytesOf(mine), BytesOf(all), bytes);
  return all;
}

}  // namespace sluice::model
