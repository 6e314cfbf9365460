#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "ops/reference/reference_back_end.h"
#include "ops/reference/values.h"

namespace sluice::ops::reference {

Row ReadLatent(const AttentionShape& shape, const PagedCache& cache, PageTable pages, int64_t position) {
  const int64_t row_bytes = LatentRowBytes(cache.format, shape.latent, shape.rope);
  const std::byte* row = PageOf(cache, pages, position, row_bytes) + position % kPageTokens * row_bytes;
  Row values(shape.latent_width());
  if (cache.format == CacheFormat::kF32) {
    for (int64_t i = 0; i < shape.latent_width(); ++i) {
      values[i] = reinterpret_cast<const float*>(row)[i];
    }
    return values;
  }
  if (cache.format == CacheFormat::kBf16) {
    for (int64_t i = 0; i < shape.latent_width(); ++i)
      values[i] = ToFloat(reinterpret_cast<const BF16*>(row)[i]);
    return values;
  }
  const auto* codes = reinterpret_cast<const F8E4M3*>(row);
  const auto* scales = reinterpret_cast<const float*>(row + shape.latent);
  const auto* rope = reinterpret_cast<const BF16*>(row + row_bytes - 2 * shape.rope);
  for (int64_t i = 0; i < shape.latent; ++i)
    values[i] = RoundToBF16(ToFloat(codes[i]) * scales[i / kQuantBlock]);
  for (int64_t i = 0; i < shape.rope; ++i) values[shape.latent + i] = ToFloat(rope[i]);
  return values;
}

Row ReadIndexKey(int64_t dim, const PagedCache& cache, PageTable pages, int64_t position, float* scale) {
  const std::byte* page = PageOf(cache, pages, position, IndexRowBytes(cache.format, dim));
  const int64_t slot = position % kPageTokens;
  Row key(dim);
  *scale = 1.0F;
  if (cache.format == CacheFormat::kF32) {
    const auto* values = reinterpret_cast<const float*>(page) + slot * dim;
    std::copy(values, values + dim, key.begin());
    return key;
  }
  const auto* codes = reinterpret_cast<const F8E4M3*>(page) + slot * dim;
  for (int64_t i = 0; i < dim; ++i) key[i] = ToFloat(codes[i]);
  std::memcpy(scale, page + kPageTokens * dim + slot * 4, 4);
  return key;
}

void ReferenceOps::LatentRows(const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                              const Tensor& angles, const Tensor& rows) {
  for (int64_t t = 0; t < kv.rows; ++t) {
    Row c = LoadRow(kv.ColRange(0, shape.latent), t);
    double squares = 0.0;
    for (const double value : c) squares += value * value;
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(shape.latent) + eps);
    for (int64_t i = 0; i < shape.latent; ++i)
      c[i] = Rounded(numerics_, c[i] * factor * norm.At<float>(0, i));
    Row k_pe = LoadRow(kv.ColRange(shape.latent, shape.rope), t);
    Rotate(k_pe, angles, t, /*interleaved=*/true);

    auto* out = rows.Row<std::byte>(t);
    if (numerics_ == Numerics::kExact) {
      auto* values = reinterpret_cast<float*>(out);
      for (const double value : c) *values++ = static_cast<float>(value);
      for (const double value : k_pe) *values++ = static_cast<float>(value);
      continue;
    }
    if (rows.cols == LatentRowBytes(CacheFormat::kBf16, shape.latent, shape.rope)) {
      auto* values = reinterpret_cast<BF16*>(out);
      for (const double value : c) *values++ = ToBF16(static_cast<float>(value));
      for (const double value : k_pe) *values++ = ToBF16(static_cast<float>(value));
      continue;
    }
    auto* scales = reinterpret_cast<float*>(out + shape.latent);
    for (int64_t begin = 0; begin < shape.latent; begin += kQuantBlock) {
      *scales++ = QuantizeBlock(std::span(c).subspan(begin, std::min(kQuantBlock, shape.latent - begin)));
    }
    for (int64_t i = 0; i < shape.latent; ++i) out[i] = std::byte{ToF8E4M3(static_cast<float>(c[i])).bits};
    auto* rope = reinterpret_cast<BF16*>(scales);
    for (const double value : k_pe) *rope++ = ToBF16(static_cast<float>(value));
  }
}

void ReferenceOps::WriteLatents(const Tensor& rows, std::span<const RowPlace> places,
                                std::span<const PageTable> pages, const PagedCache& latents) {
  for (int64_t t = 0; t < rows.rows; ++t) {
    const auto [sequence, position] = places[t];
    std::byte* page = PageOf(latents, pages[sequence], position, rows.cols);
    std::memcpy(page + position % kPageTokens * rows.cols, rows.Row<std::byte>(t), rows.cols);
  }
}

void ReferenceOps::WriteIndexKeys(const Tensor& rows, std::span<const RowPlace> places,
                                  std::span<const PageTable> pages, const PagedCache& index_keys) {
  for (int64_t t = 0; t < rows.rows; ++t) {
    const auto [sequence, position] = places[t];
    const int64_t slot = position % kPageTokens;
    std::byte* page = PageOf(index_keys, pages[sequence], position, rows.cols);
    const auto* row = rows.Row<std::byte>(t);
    if (index_keys.format == CacheFormat::kF32) {
      std::memcpy(page + slot * rows.cols, row, rows.cols);
      continue;
    }
    const int64_t dim = rows.cols - 4;
    std::memcpy(page + slot * dim, row, dim);
    std::memcpy(page + kPageTokens * dim + slot * 4, row + dim, 4);
  }
}

void ReferenceOps::SparseAttention(const AttentionShape& shape, const Tensor& q_latent,
                                   const PagedCache& latents, std::span<const RowPlace> places,
                                   std::span<const PageTable> pages, const Tensor& selection, float scale,
                                   const Tensor& o_latent) {
  for (int64_t t = 0; t < q_latent.rows; ++t) {
    std::vector<Row> keys;
    for (int64_t j = 0; j < selection.cols && selection.At<int32_t>(t, j) >= 0; ++j) {
      keys.push_back(ReadLatent(shape, latents, pages[places[t].sequence], selection.At<int32_t>(t, j)));
    }
    for (int64_t h = 0; h < shape.heads; ++h) {
      const Row q = LoadRow(q_latent.ColRange(h * shape.latent_width(), shape.latent_width()), t);
      Row scores;
      for (const Row& key : keys)
        scores.push_back(scale * std::inner_product(q.begin(), q.end(), key.begin(), 0.0));
      const double largest = scores.empty() ? 0.0 : *std::max_element(scores.begin(), scores.end());
      Row o(shape.latent, 0.0);
      double sum = 0.0;
      for (size_t j = 0; j < keys.size(); ++j) {
        const double p = std::exp(scores[j] - largest);
        sum += p;
        for (int64_t i = 0; i < shape.latent; ++i) o[i] += p * keys[j][i];
      }
      if (sum > 0.0) {
        for (double& value : o) value /= sum;
      }
      StoreRow(o_latent.ColRange(h * shape.latent, shape.latent), t, o);
    }
  }
}

void ReferenceOps::IndexQueries(const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                                const Tensor& angles, const Tensor& queries, const Tensor& gates) {
  const double constant =
      1.0 / std::sqrt(static_cast<double>(shape.heads)) / std::sqrt(static_cast<double>(shape.dim));
  for (int64_t t = 0; t < q.rows; ++t) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      Row head = LoadRow(q.ColRange(h * shape.dim, shape.dim), t);
      Rotate(std::span(head).first(shape.rope), angles, t, shape.rope_interleaved);
      const Tensor out = queries.ColRange(h * shape.dim, shape.dim);
      double scale = 1.0;
      if (numerics_ == Numerics::kExact) {
        StoreRow(out, t, head);
      } else {
        for (double& value : head) value = Rounded(numerics_, value);
        Hadamard(head);
        for (double& value : head) value = Rounded(numerics_, value);
        scale = QuantizeBlock(head);
        for (int64_t i = 0; i < shape.dim; ++i) out.At<F8E4M3>(t, i) = ToF8E4M3(static_cast<float>(head[i]));
      }
      gates.At<float>(t, h) = static_cast<float>(gate_logits.At<float>(t, h) * constant * scale);
    }
  }
}

void ReferenceOps::IndexKeyRows(const IndexerShape& shape, const Tensor& k, const Tensor& weight,
                                const Tensor& bias, const Tensor& angles, const Tensor& rows) {
  constexpr double kLayerNormEps = 1e-6;  // fixed in the official code, not rms_norm_eps
  const auto dim = static_cast<double>(shape.dim);
  for (int64_t t = 0; t < k.rows; ++t) {
    Row key = LoadRow(k, t);
    const double mean = std::accumulate(key.begin(), key.end(), 0.0) / dim;
    double squares = 0.0;
    for (const double value : key) squares += (value - mean) * (value - mean);
    const double factor = 1.0 / std::sqrt(squares / dim + kLayerNormEps);
    for (int64_t i = 0; i < shape.dim; ++i) {
      key[i] = Rounded(numerics_, (key[i] - mean) * factor * weight.At<float>(0, i) + bias.At<float>(0, i));
    }
    Rotate(std::span(key).first(shape.rope), angles, t, shape.rope_interleaved);
    auto* out = rows.Row<std::byte>(t);
    if (numerics_ == Numerics::kExact) {
      for (int64_t i = 0; i < shape.dim; ++i) reinterpret_cast<float*>(out)[i] = static_cast<float>(key[i]);
      continue;
    }
    for (double& value : key) value = Rounded(numerics_, value);
    Hadamard(key);
    for (double& value : key) value = Rounded(numerics_, value);
    const float scale = QuantizeBlock(key);
    for (int64_t i = 0; i < shape.dim; ++i) out[i] = std::byte{ToF8E4M3(static_cast<float>(key[i])).bits};
    std::memcpy(out + shape.dim, &scale, 4);
  }
}

void ReferenceOps::SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                              const PagedCache& index_keys, std::span<const RowPlace> places,
                              std::span<const PageTable> pages, const Tensor& selection) {
  for (int64_t t = 0; t < queries.rows; ++t) {
    const int64_t visible = places[t].position + 1;
    std::vector<std::pair<double, int32_t>> scored(visible);
    for (int64_t s = 0; s < visible; ++s) {
      double score = 0.0;
      if (visible > shape.top_k) {
        float scale = 1.0F;
        const Row key = ReadIndexKey(shape.dim, index_keys, pages[places[t].sequence], s, &scale);
        for (int64_t h = 0; h < shape.heads; ++h) {
          const Row q = LoadRow(queries.ColRange(h * shape.dim, shape.dim), t);
          const double dot = std::inner_product(q.begin(), q.end(), key.begin(), 0.0);
          score += gates.At<float>(t, h) * std::max(0.0, dot);
        }
        score *= scale;
        if (std::isnan(score)) {
          Fail(ErrorKind::kInternal, "the index score of row {} for position {} is not a number", t, s);
        }
      }
      scored[s] = {-score, static_cast<int32_t>(s)};  // ascending order: largest score, then lowest position
    }
    const int64_t taken = std::min(shape.top_k, visible);
    std::partial_sort(scored.begin(), scored.begin() + taken, scored.end());
    auto* out = selection.Row<int32_t>(t);
    for (int64_t j = 0; j < selection.cols; ++j) out[j] = j < taken ? scored[j].second : -1;
    std::sort(out, out + taken);
  }
}

}  // namespace sluice::ops::reference
