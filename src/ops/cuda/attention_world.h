#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "ops/cuda/sparse_attention.h"
#include "ops/ops.h"

namespace sluice::ops::cuda {

// For tests: queries, selections and a cache of two sequences; `placement` decides where their pages lie.
//
// Scores: keys are noise + u + (position / context) v, and the rows' queries in turn give small scores, those
// of one deviation, one key that outweighs all, -150 and less, and scores that rise or fall by 60 on the way.
struct AttentionWorld {
  static constexpr int64_t kContext = 65536;
  static constexpr int64_t kPages = kContext / kPageTokens;
  static constexpr int32_t kSequences = 2;
  static constexpr int64_t kWritten = 6000;  // positions of a sequence that hold keys; the others hold NaN
  static constexpr int64_t kRows = 300;
  static constexpr int64_t kTopK = 2048;
  static constexpr int64_t kSelectionStride = kTopK + 5;
  static constexpr float kScale = 0.0722F;  // 192^-1/2
  // The first rows have these numbers of keys, the others any.
  static constexpr int32_t kEdges[] = {0, 1, 63, 64, 65, 511, 512, 513, 1024, 2047, 2048};

  AttentionWorld(CacheFormat cache_format, int64_t head_count, uint32_t placement)
      : format(cache_format), heads(head_count), row_bytes(LatentRowBytes(format, kLatent, kRotated)) {
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    table.resize(kSequences * kPages);
    std::iota(table.begin(), table.end(), 0);
    std::mt19937 shuffle(placement);
    std::shuffle(table.begin(), table.end(), shuffle);
    cache.resize(table.size() * kPageTokens * row_bytes, 0x7f);
    std::vector<float> u(kLatentWidth), v(kLatentWidth);
    for (float& x : u) x = 0.5F * normal(random);
    for (float& x : v) x = normal(random);
    key_of.assign(kSequences, std::vector<int32_t>(kContext, -1));
    std::vector<std::vector<int32_t>> written(kSequences);
    for (int32_t sequence = 0; sequence < kSequences; ++sequence) {
      std::vector<int32_t> positions(kContext);
      std::iota(positions.begin(), positions.end(), 0);
      std::shuffle(positions.begin(), positions.end(), random);
      positions.resize(kWritten);
      for (const int32_t position : positions) {
        std::vector<float> key(kLatentWidth);
        for (int64_t i = 0; i < kLatentWidth; ++i) {
          key[i] = normal(random) + u[i] + static_cast<float>(position) / kContext * v[i];
        }
        key_of[sequence][position] = static_cast<int32_t>(keys.size() / kLatentWidth);
        Write(key, cache.data() + CacheRow(sequence, position) * row_bytes, random);
      }
      written[sequence] = positions;
    }
    selection.assign(kRows * kSelectionStride, 1 << 30);
    for (int64_t t = 0; t < kRows; ++t) {
      sequences.push_back(static_cast<int32_t>(t / 2 % kSequences));
      count.push_back(t < std::ssize(kEdges) ? kEdges[t] : static_cast<int32_t>(random() % (kTopK + 1)));
      std::vector<int32_t>& from = written[sequences[t]];
      std::shuffle(from.begin(), from.end(), random);
      int32_t* row = selection.data() + t * kSelectionStride;
      std::fill_n(row, kTopK, -1);
      std::copy_n(from.begin(), count[t], row);
      std::sort(row, row + count[t]);
    }
    std::vector<float> noise(1 << 16);  // of all queries, each from somewhere else on: a draw is slow
    for (float& x : noise) x = normal(random);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        // u.u is about 144, v.v 576, and a query of unit deviation has scores of deviation 1.7.
        constexpr float kNoise[] = {0.1F, 1.0F, 20.0F, 1.0F, 0.5F, 0.5F};
        constexpr float kAlongU[] = {0, 0, 0, -15.0F, 0, 0};
        constexpr float kAlongV[] = {0, 0, 0, 0, 1.5F, -1.5F};
        const int64_t kind = (t + h) % 6;
        const float* own = noise.data() + random() % (noise.size() - kLatentWidth);
        for (int64_t i = 0; i < kLatentWidth; ++i) {
          q.push_back(ToBF16(kNoise[kind] * own[i] + kAlongU[kind] * u[i] + kAlongV[kind] * v[i]));
        }
      }
    }
  }

  int64_t CacheRow(int32_t sequence, int32_t position) const {
    return table[sequence * kPages + position / kPageTokens] * kPageTokens + position % kPageTokens;
  }

  // Appends to keys what is written.
  void Write(const std::vector<float>& key, uint8_t* row, std::mt19937& random) {
    uint8_t* rotated = row;
    if (format == CacheFormat::kFp8) {
      for (int64_t block = 0; block < kLatent / kQuantBlock; ++block) {
        // Blocks with scales far apart: a scale of another block is a large error.
        const float scale = std::ldexp(1.0F, -6 + static_cast<int>(random() % 4));
        std::memcpy(row + kLatent + 4 * block, &scale, 4);
        for (int64_t i = block * kQuantBlock; i < (block + 1) * kQuantBlock; ++i) {
          const F8E4M3 code = ToF8E4M3(key[i] / scale);
          row[i] = code.bits;
          keys.push_back(static_cast<double>(ToFloat(code)) * scale);
        }
      }
      rotated += row_bytes - 2 * kRotated;
    } else {
      rotated = WriteBf16(std::span(key).first(kLatent), row);
    }
    WriteBf16(std::span(key).last(kRotated), rotated);
  }
  uint8_t* WriteBf16(std::span<const float> values, uint8_t* to) {
    for (const float value : values) {
      const BF16 rounded = ToBF16(value);
      std::memcpy(to, &rounded, 2);
      to += 2;
      keys.push_back(ToFloat(rounded));
    }
    return to;
  }

  // o_latent of a row and a head in double.
  std::vector<double> Right(int64_t t, int64_t h) const {
    std::vector<double> query(kLatentWidth);
    for (int64_t i = 0; i < kLatentWidth; ++i) query[i] = ToFloat(q[(t * heads + h) * kLatentWidth + i]);
    std::vector<double> scores(count[t]);
    const auto key = [&](int64_t j) {
      return keys.data() + key_of[sequences[t]][selection[t * kSelectionStride + j]] * kLatentWidth;
    };
    for (int64_t j = 0; j < count[t]; ++j) {
      scores[j] = kScale * std::inner_product(query.begin(), query.end(), key(j), 0.0);
    }
    std::vector<double> o(kLatent, 0.0);
    if (count[t] == 0) return o;
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    for (int64_t j = 0; j < count[t]; ++j) {
      const double p = std::exp(scores[j] - largest);
      sum += p;
      for (int64_t i = 0; i < kLatent; ++i) o[i] += p * key(j)[i];
    }
    for (double& value : o) value /= sum;
    return o;
  }

  CacheFormat format;
  int64_t heads;
  int64_t row_bytes;
  std::vector<int32_t> table;
  std::vector<uint8_t> cache;
  std::vector<double> keys;                  // as written, [key, kLatentWidth]
  std::vector<std::vector<int32_t>> key_of;  // [sequence][position]: number of the key, -1
  std::vector<int32_t> sequences, count, selection;
  std::vector<BF16> q;  // [kRows, heads * kLatentWidth]
};

}  // namespace sluice::ops::cuda
