#include "gpu_operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "ops/cache_format.h"

namespace sluice::bench {
namespace {

constexpr int64_t kBlock = ops::kQuantBlock;

std::span<const std::byte> PatternOf(DType type) {
  return type == DType::kBF16 ? RandomBf16() : RandomCodes();
}

std::vector<ops::cuda::RowGroup> GroupsOf(const Linear& linear) {
  std::vector<ops::cuda::RowGroup> groups;
  for (int64_t i = 0; i < linear.experts; ++i) {
    const int64_t each = linear.rows / linear.experts;
    groups.push_back(
        {static_cast<int32_t>(i * each), static_cast<int32_t>((i + 1) * each), static_cast<int32_t>(i)});
  }
  return groups;
}

int64_t XStride(const Linear& linear) {
  return linear.heads > 1 ? linear.heads * linear.x_step : linear.inputs;
}
int64_t YStride(const Linear& linear) {
  return linear.heads > 1 ? linear.heads * linear.y_step : linear.outputs;
}

// Block-planar pages of an index cache.
std::vector<std::byte> IndexPages(int64_t pages) {
  constexpr int64_t kCodes = ops::kPageTokens * ops::cuda::kIndexDim;
  constexpr int64_t kScales = ops::kPageTokens * 4;
  std::vector<std::byte> bytes;
  for (int64_t page = 0; page < pages; ++page) {
    const auto codes = RandomCodes().subspan(page * kCodes, kCodes);
    const auto scales = RandomScales().subspan(page * kScales, kScales);
    bytes.insert(bytes.end(), codes.begin(), codes.end());
    bytes.insert(bytes.end(), scales.begin(), scales.end());
  }
  return bytes;
}

}  // namespace

double Linear::bytes() const {
  return static_cast<double>(rows * heads * inputs * SizeOf(type) + weight_bytes() +
                             rows * heads * outputs * SizeOf(y_type));
}

std::string Linear::Name() const {
  if (experts > 0) {
    return fmt::format("{} experts x {} rows, n {}, k {}", experts, rows / experts, outputs, inputs);
  }
  return fmt::format("m {}, {}n {}, k {}", rows, heads > 1 ? fmt::format("{} heads, ", heads) : "", outputs,
                     inputs);
}

LinearOperands::LinearOperands(const Linear& linear, int64_t copies)
    : linear_(linear),
      copies_(copies),
      x_(linear.rows * XStride(linear) * SizeOf(linear.type), PatternOf(linear.type)),
      w_(copies * linear.weight_bytes(), PatternOf(linear.type)),
      x_scales_(linear.rows * CeilDiv(linear.inputs, kBlock) * 4, RandomScales()),
      w_scales_(linear.weights() * CeilDiv(linear.outputs, kBlock) * CeilDiv(linear.inputs, kBlock) * 4,
                RandomScales()),
      y_(linear.rows * YStride(linear) * SizeOf(linear.y_type)),
      groups_(GroupsOf(linear)) {}

ops::cuda::Gemm LinearOperands::Launch(int64_t i) const {
  ops::cuda::Gemm gemm;
  gemm.type = linear_.type;
  gemm.rows = linear_.rows;
  gemm.inputs = linear_.inputs;
  gemm.outputs = linear_.outputs;
  gemm.weights = linear_.weights();
  gemm.batches = linear_.heads;
  gemm.x_step = linear_.heads > 1 ? linear_.x_step : 0;
  gemm.y_step = linear_.heads > 1 ? linear_.y_step : 0;
  gemm.x = x_.as();
  gemm.x_stride = XStride(linear_);
  gemm.w = w_.as(i % copies_ * linear_.weight_bytes());
  gemm.x_scales = x_scales_.as<float>();
  gemm.x_scales_stride = CeilDiv(linear_.inputs, kBlock);
  gemm.w_scales = w_scales_.as<float>();
  gemm.y = y_.as();
  gemm.y_type = linear_.y_type;
  gemm.y_stride = YStride(linear_);
  if (linear_.experts > 0) {
    gemm.groups = groups_.as<ops::cuda::RowGroup>();
    gemm.group_count = static_cast<int32_t>(linear_.experts);
  }
  return gemm;
}

ScoreOperands::ScoreOperands(int64_t heads, int64_t sequences, int64_t rows_each, int64_t context)
    : heads_(heads),
      sequences_(sequences),
      rows_(sequences * rows_each),
      context_(context),
      queries_(rows_ * heads * ops::cuda::kIndexDim, RandomCodes()),
      gates_(rows_ * heads * 4, RandomFloats()),
      cache_(sequences * context * (ops::cuda::kIndexDim + 4), IndexPages(64)),
      tables_(ShuffledPages(sequences * context)),
      scores_(rows_ * context * 4),
      positions_([&] {
        std::vector<int32_t> positions;
        for (int64_t row = 0; row < rows_; ++row) {
          positions.push_back(static_cast<int32_t>(context - rows_each + row % rows_each));
          visible_ += positions.back() + 1.0;
        }
        return positions;
      }()),
      groups_([&] {
        std::vector<ops::RowPlace> places;
        for (int64_t row = 0; row < rows_; ++row) {
          places.push_back({static_cast<int32_t>(row / rows_each),
                            static_cast<int32_t>(context - rows_each + row % rows_each)});
        }
        const auto groups = ops::cuda::GroupQueries(places, heads);
        group_count_ = static_cast<int32_t>(groups.size());
        return groups;
      }()) {}

ops::cuda::IndexScores ScoreOperands::Launch() const {
  ops::cuda::IndexScores work;
  work.heads = heads_;
  work.rows = rows_;
  work.queries = queries_.as();
  work.gates = gates_.as<float>();
  work.cache = cache_.as();
  work.cache_pages = sequences_ * context_ / ops::kPageTokens;
  work.page_tables = tables_.as<int32_t>();
  work.table_stride = context_ / ops::kPageTokens;
  work.positions = positions_.as<int32_t>();
  work.groups = groups_.as<ops::cuda::QueryGroup>();
  work.group_count = group_count_;
  work.scores = scores_.as<float>();
  work.scores_stride = context_;
  return work;
}

double ScoreOperands::operations() const {
  return 2.0 * static_cast<double>(heads_ * ops::cuda::kIndexDim) * visible_;
}

double ScoreOperands::bytes() const {
  return 4.0 * visible_ + static_cast<double>(queries_.bytes() + cache_.bytes());
}

std::vector<int32_t> ShuffledPages(int64_t context) {
  std::vector<int32_t> pages(static_cast<size_t>(context / ops::kPageTokens));
  std::iota(pages.begin(), pages.end(), 0);
  std::mt19937 random(2);
  std::shuffle(pages.begin(), pages.end(), random);
  return pages;
}

}  // namespace sluice::bench
