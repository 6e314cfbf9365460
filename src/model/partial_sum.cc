#include "model/partial_sum.h"

namespace sluice::model {

Tensor SumOverRanks(const Pass& pass, comm::Communicator& group, std::string_view op, const Tensor& partial,
                    const std::vector<int64_t>& rows) {
  SLUICE_CHECK(partial.dtype == DType::kF32);
  const int members = group.size();
  const int64_t mine = rows[group.rank()];
  const int64_t row_bytes = partial.cols * SizeOf(partial.dtype);
  const Tensor shares = pass.New(DType::kF32, members * mine, partial.cols);  // member by member
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> receive;
  int64_t first = 0;
  for (int member = 0; member < members; ++member) {
    send.push_back(BytesOf(partial).subspan(first * row_bytes, rows[member] * row_bytes));
    receive.push_back(BytesOf(shares).subspan(member * mine * row_bytes, mine * row_bytes));
    first += rows[member];
  }
  group.AllToAll(op, send, receive);

  std::vector<ops::ExpertTerm> terms;
  std::vector<int64_t> offsets{0};
  for (int64_t row = 0; row < mine; ++row) {
    for (int member = 0; member < members; ++member) {
      terms.push_back({static_cast<int32_t>(member * mine + row), 1.0F});
    }
    offsets.push_back(static_cast<int64_t>(terms.size()));
  }
  const Tensor sum = pass.NewActivation(mine, partial.cols);
  pass.ops().SumTerms(shares, terms, offsets, sum);
  return sum;
}

}  // namespace sluice::model
