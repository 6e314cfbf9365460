#pragma once

#include <string_view>
#include <vector>

#include "model/pass.h"

namespace sluice::model {

// partial [sum of rows, d] F32: this rank's share of a sum, for the rows of every member of `group`, the
// first member's first; rows[m] of them belong to member m. Returns the finished rows of this rank,
// [rows[me], d] of type A: the members' shares added in the order of the ranks in fp32 and rounded once.
//
// We add them, not the library: what an all-reduce adds first depends on message size and topology. So the
// answer follows from the layout alone, but it is not the one-rank answer, whose sum has one order over k.
Tensor SumOverRanks(const Pass& pass, comm::Communicator& group, std::string_view op, const Tensor& partial,
                    const std::vector<int64_t>& rows);

}  // namespace sluice::model
