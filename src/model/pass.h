#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "ops/ops.h"
#include "parallel/row_split.h"
#include "step/step.h"
#include "tensor/tensor.h"

namespace sluice::model {

// A step as one lane of a stage sees it: which rows are its own, where all rows lie, and what it may use to
// compute them. Lives for one pass.
class Pass {
 public:
  // `lanes`: all ranks of the stage; `heads`: the lanes of this lane's head group (parallel/grid.h), or
  // nothing where attention is not cut by heads.
  Pass(const step::Step& step, comm::Communicator& lanes, comm::Communicator* heads, parallel::SplitMode mode,
       ops::Ops& ops, Arena& arena);

  ops::Ops& ops() const { return ops_; }
  Arena& arena() const { return arena_; }
  comm::Communicator& lanes() const { return lanes_; }
  const parallel::RowSplit& split() const { return split_; }
  int lane() const { return lanes_.rank(); }
  // The head group, when attention is cut by heads, and how many of the step's rows each of its lanes has.
  comm::Communicator* heads() const { return heads_; }
  std::vector<int64_t> RowsOfHeads() const;
  std::vector<int64_t> RowsOfLanes() const;

  int64_t rows() const { return static_cast<int64_t>(mine_.size()); }       // T of this lane
  const std::vector<int32_t>& tokens() const { return tokens_; }            // all rows of the step, in order
  const std::vector<ops::RowPlace>& mine() const { return mine_; }          // this lane's rows
  const std::vector<ops::RowPlace>& gathered() const { return gathered_; }  // all rows, lane 0's first
  // The rows of the head group, its first lane's first; those of `mine` without one.
  std::span<const ops::RowPlace> of_heads() const { return of_heads_; }
  const std::vector<ops::PageTable>& pages() const { return pages_; }  // by sequence of the step

  Tensor New(DType dtype, int64_t rows, int64_t cols) const { return arena_.New(dtype, rows, cols); }
  Tensor NewActivation(int64_t rows, int64_t cols) const {
    return New(ops::ActivationType(ops_.numerics()), rows, cols);
  }
  Tensor NewBytes(int64_t rows, int64_t cols) const { return New(DType::kU8, rows, cols); }
  // Room for rows that linears read in these forms: values, if any does, in the place of `values`.
  ops::Activation NewForms(ops::Forms forms, const Tensor& values) const {
    ops::Activation activation;
    if (forms.values) activation.values = values;
    if (forms.quantized) {
      activation.quantized = New(DType::kU8, values.rows, ops::QuantizedRowBytes(values.cols));
    }
    return activation;
  }

  // Every lane's rows of a contiguous tensor, lane 0's first: [split().rows(), cols]. With one lane, `mine`
  // itself.
  Tensor Gather(std::string_view op, const Tensor& mine) const;
  // The same within the head group: [of_heads().size(), cols].
  Tensor GatherHeads(std::string_view op, const Tensor& mine) const;
  // A gather in two halves, for ops to be called in between: they are computed while this lane waits for the
  // others. End exchanges what `mine` was at the beginning.
  class Gathering;
  Gathering BeginGather(std::string_view op, const Tensor& mine) const;
  // Every form that is there.
  ops::Activation Gather(std::string_view op, const ops::Activation& mine) const;
  ops::Activation GatherHeads(std::string_view op, const ops::Activation& mine) const;
  // Into `all`; not without a head group.
  void GatherHeads(std::string_view op, const Tensor& mine, const Tensor& all) const;

 private:
  comm::Communicator& lanes_;
  comm::Communicator* heads_;
  ops::Ops& ops_;
  Arena& arena_;
  parallel::RowSplit split_;
  std::vector<int32_t> tokens_;
  std::vector<ops::RowPlace> mine_;
  std::vector<ops::RowPlace> gathered_;
  std::span<const ops::RowPlace> of_heads_;  // a stretch of gathered_: the group's lanes are neighbours
  std::vector<ops::PageTable> pages_;
};

class Pass::Gathering {
 public:
  // Every lane's rows; once.
  Tensor End() const;

 private:
  friend class Pass;
  const Pass& pass_;
  std::string_view op_;
  Tensor mine_;
  Tensor all_;  // taken at the beginning: memory that ops in between let go of is still theirs at the end
  std::unique_ptr<StreamMark> made_;  // mine

  Gathering(const Pass& pass, std::string_view op, const Tensor& mine, const Tensor& all,
            std::unique_ptr<StreamMark> made)
      : pass_(pass), op_(op), mine_(mine), all_(all), made_(std::move(made)) {}
};

// The bytes of a contiguous tensor.
std::span<std::byte> BytesOf(const Tensor& tensor);

}  // namespace sluice::model
