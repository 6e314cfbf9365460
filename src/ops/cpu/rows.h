#pragma once

#include <cstdint>
#include <span>

#include "ops/ops.h"

// The row-wise kernels of CpuOps: each computes rows [begin, end) of the op of the same name in ops/ops.h,
// with SIMD chosen at run time. Sums over a row run in 16 lanes (lane i takes elements i, 16 + i, ...) that
// are added in one tree, so the bits are those of every vector width.
namespace sluice::ops::cpu {

void EmbedRows(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y,
               int64_t begin, int64_t end);
void RmsNormRows(const Tensor& x, const Tensor& w, float eps, const Activation& y, int64_t begin,
                 int64_t end);
void SwiGluRows(const Tensor& gate, const Tensor& up, const Activation& y, int64_t begin, int64_t end);
void AddRows(const Tensor& x, const Tensor& y, int64_t begin, int64_t end);
void SumTermsRows(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                  const Tensor& out, int64_t begin, int64_t end);
// nodes[into] = nodes[left] + nodes[right] over columns [begin, end), join after join.
void JoinNodesColumns(std::span<const NodeJoin> joins, const Tensor& nodes, int64_t begin, int64_t end);
void SumExpertsRange(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                     const ExpertLeaves& leaves, std::span<const Subtree> subtrees, const Tensor& nodes,
                     int64_t begin, int64_t end);
void JoinSubtreesRange(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                       std::span<const SubtreeRows> subtrees, const Tensor& out, int64_t begin, int64_t end);
// Not by rows: the pairs of an expert come from all of them.
void PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan);
void RouteRows(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
               const Tensor& weights, int64_t begin, int64_t end);

// The rotary part of Ops::AbsorbQuery: columns [nope, nope + rope) of each head of q, rotated, into columns
// [latent, latent + rope) of the same head of q_latent.
void RotateQueryRows(const AttentionShape& shape, const Tensor& q, const Tensor& angles,
                     const Tensor& q_latent, int64_t begin, int64_t end);
void LatentRowsRange(Numerics numerics, const AttentionShape& shape, const Tensor& kv, const Tensor& norm,
                     float eps, const Tensor& angles, const Tensor& rows, int64_t begin, int64_t end);
void IndexQueryRows(Numerics numerics, const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates, int64_t begin,
                    int64_t end);
void IndexKeyRowsRange(Numerics numerics, const IndexerShape& shape, const Tensor& k, const Tensor& weight,
                       const Tensor& bias, const Tensor& angles, const Tensor& rows, int64_t begin,
                       int64_t end);

// out[i] = e^in[i], the exponential that every kernel uses; within 2 units in the last place.
void ExpValues(std::span<const float> in, std::span<float> out);

}  // namespace sluice::ops::cpu
