#include "golden_checkpoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <sstream>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"

namespace sluice::golden {
namespace {

constexpr int64_t kBlock = 128;

uint64_t SplitMix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

uint64_t Fnv1a64(const std::string& text) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3U;
  return hash;
}

float FromHex(const std::string& bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(std::stoul(bits, nullptr, 16)));
}

DType DTypeNamed(const std::string& name) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    if (NameOf(dtype) == name) return dtype;
  }
  Fail(ErrorKind::kModelFiles, "A tensor table names the dtype {}; F32, BF16 and F8_E4M3 are known.", name);
}

int64_t BlocksOf(int64_t n) { return (n + kBlock - 1) / kBlock; }

// [ceil(rows / 128), ceil(cols / 128)] power-of-two scales of a matrix.
std::vector<float> ScalesOf(const std::vector<float>& values, int64_t rows, int64_t cols) {
  std::vector<float> scales(BlocksOf(rows) * BlocksOf(cols), 0.0F);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      float& amax = scales[r / kBlock * BlocksOf(cols) + c / kBlock];
      amax = std::max(amax, std::fabs(values[r * cols + c]));
    }
  }
  for (float& scale : scales) scale = PowerOfTwoScale(scale);
  return scales;
}

template <typename T>
void CopyTo(std::span<std::byte> bytes, const std::vector<T>& values) {
  SLUICE_CHECK(bytes.size() == values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
}

void Fill(const TensorRule& rule, uint64_t seed, std::span<std::byte> bytes) {
  const std::vector<float> values = ValuesOf(rule, seed);
  if (rule.dtype == DType::kF32) return CopyTo(bytes, values);
  if (rule.dtype == DType::kBF16) {
    std::vector<BF16> rounded(values.size());
    std::transform(values.begin(), values.end(), rounded.begin(), ToBF16);
    return CopyTo(bytes, rounded);
  }
  const int64_t rows = rule.shape[0];
  const int64_t cols = rule.shape[1];
  const std::vector<float> scales = ScalesOf(values, rows, cols);
  std::vector<F8E4M3> codes(values.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      codes[r * cols + c] = ToF8E4M3(values[r * cols + c] / scales[r / kBlock * BlocksOf(cols) + c / kBlock]);
    }
  }
  CopyTo(bytes, codes);
}

}  // namespace

std::vector<TensorRule> ParseTable(const std::string& text) {
  std::vector<TensorRule> rules;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    TensorRule& rule = rules.emplace_back();
    std::string dtype;
    std::string center;
    std::string spread;
    size_t rank = 0;
    fields >> rule.name >> dtype >> rank;
    rule.shape.resize(std::min<size_t>(rank, 2));
    for (int64_t& size : rule.shape) fields >> size;
    fields >> center >> spread >> rule.outlier_step >> rule.outlier_at >> rule.outlier_gain;
    if (!fields)
      Fail(ErrorKind::kModelFiles, "A tensor table has the line \"{}\", which cannot be read.", line);
    rule.dtype = DTypeNamed(dtype);
    rule.center = FromHex(center);
    rule.spread = FromHex(spread);
  }
  return rules;
}

std::vector<float> ValuesOf(const TensorRule& rule, uint64_t seed) {
  const int64_t cols = rule.shape.back();
  const int64_t rows = rule.shape.size() == 1 ? 1 : rule.shape[0];
  const uint64_t start = SplitMix64(seed ^ Fnv1a64(rule.name));
  std::vector<float> values(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    const double unit = static_cast<double>(SplitMix64(start + static_cast<uint64_t>(i)) >> 40) * 0x1p-24;
    values[i] = static_cast<float>(static_cast<double>(rule.center) +
                                   static_cast<double>(rule.spread) * (2.0 * unit - 1.0));
    if (rule.outlier_step != 0 && i / cols % rule.outlier_step == rule.outlier_at)
      values[i] *= rule.outlier_gain;
  }
  return values;
}

void WriteConfig(const Vectors& vectors, const std::filesystem::path& directory) {
  checkpoint::WriteTextFile(directory / "config.json", vectors.config_json);
}

void WriteCheckpoint(const Vectors& vectors, const std::filesystem::path& directory) {
  WriteConfig(vectors, directory);
  std::vector<checkpoint::TensorToWrite> tensors;
  for (const TensorRule& rule : ParseTable(vectors.tensor_table)) {
    tensors.push_back({rule.name, rule.dtype, rule.shape,
                       [rule, seed = vectors.seed](std::span<std::byte> bytes) { Fill(rule, seed, bytes); }});
    if (rule.dtype != DType::kF8E4M3) continue;
    const int64_t rows = rule.shape[0];
    const int64_t cols = rule.shape[1];
    tensors.push_back({rule.name + "_scale_inv",
                       DType::kF32,
                       {BlocksOf(rows), BlocksOf(cols)},
                       [rule, rows, cols, seed = vectors.seed](std::span<std::byte> bytes) {
                         CopyTo(bytes, ScalesOf(ValuesOf(rule, seed), rows, cols));
                       }});
  }
  checkpoint::WriteShards(directory, std::move(tensors), std::numeric_limits<int64_t>::max(), {});
}

}  // namespace sluice::golden
