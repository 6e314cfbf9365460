#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

// The committed vectors of one random model; README.md here says how they are made.
namespace sluice::golden {

// Rows are those of `tokens`: the prompt, then (exact vectors) the greedy continuation. Positions equal rows.
struct Vectors {
  std::string name;
  std::vector<int32_t> tokens;  // T
  int64_t prompt_tokens = 0;
  uint64_t seed = 0;
  int64_t layers = 0;
  int64_t top_k = 0;
  int64_t vocab = 0;

  std::vector<uint8_t> selected;      // [layers, T, ceil(T / 8)], bit p % 8 of byte p / 8 is position p
  std::vector<float> margin;          // [layers, T]: k-th score minus the next; kNoChoice where all are taken
  std::vector<float> deviation;       // [layers, T]: standard deviation of the row's visible scores
  std::vector<int32_t> near_offsets;  // [layers * T + 1] into the two below
  std::vector<int32_t> near_positions;  // keys near the k-th score (README.md) ...
  std::vector<float> near_distances;    // ... and (score - k-th score) / deviation; selected ones are >= 0

  std::vector<int32_t> logit_rows;  // R
  std::vector<float> logits;        // [R, vocab]
  std::vector<float> greedy_gap;    // per greedy token, largest logit minus the next; empty in fp8 vectors
  std::vector<float> inv_freq;      // [32], of the model that made the vectors

  std::string config_json;
  std::string tensor_table;  // generator.py: one tensor per line

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
  bool Selected(int64_t layer, int64_t row, int64_t position) const;
  // The positions of a row's set, ascending.
  std::vector<int32_t> Selection(int64_t layer, int64_t row) const;
};

inline constexpr float kNoChoice = 3e38F;

// Reads a vector file; throws Error(kModelFiles) when it is not one.
Vectors ReadVectors(const std::filesystem::path& path);

}  // namespace sluice::golden
