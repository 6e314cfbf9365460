#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "step/step.h"

namespace sluice::schedule {

inline uint64_t Mix(uint64_t value) {  // splitmix64
  value += 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

// A text as a model sees it: the row at a position is a function of all tokens up to it, and so is the token
// sampled after it.
class Text {
 public:
  Text() = default;
  Text(uint64_t salt, uint64_t seed) : salt_(salt), seed_(seed) {}
  void Append(int32_t token) {
    tokens_.push_back(token);
    const uint64_t before = rows_.empty() ? Mix(salt_) : rows_.back();
    rows_.push_back(Mix(before ^ static_cast<uint64_t>(token)));
  }
  // The token sampled after the row at `position`.
  int32_t SampledAfter(int64_t position) const {
    return static_cast<int32_t>(Mix(rows_[static_cast<size_t>(position)] ^ seed_) % 3);
  }
  int64_t size() const { return std::ssize(tokens_); }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<uint64_t>& rows() const { return rows_; }

 private:
  uint64_t salt_ = 0;
  uint64_t seed_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<uint64_t> rows_;  // never 0 but by chance
};

// What lies in the pages of a rank that takes steps in the order in which they are published.
class SimulatedCache {
 public:
  explicit SimulatedCache(int64_t pages) : rows_(static_cast<size_t>(pages * ops::kPageTokens), 0) {}

  // The step's part writes its rows and reads every row before them: each must be the text's own.
  void Compute(const step::StepSequence& part, const Text& text) {
    const int64_t begin = part.first_position;
    const int64_t end = begin + std::ssize(part.tokens);
    ASSERT_LE(end, text.size());
    ASSERT_EQ(std::ssize(part.pages), (end + 63) / 64);
    for (int64_t row = begin; row < end; ++row)
      rows_[Slot(part, row)] = text.rows()[static_cast<size_t>(row)];
    for (int64_t row = 0; row < end; row += ops::kPageTokens) {
      const auto expected = text.rows().begin() + row;
      const int64_t count = std::min(ops::kPageTokens, end - row);
      ASSERT_TRUE(
          std::equal(expected, expected + count, rows_.begin() + static_cast<int64_t>(Slot(part, row))))
          << "sequence " << part.sequence << " reads rows that are not its text's in page "
          << part.pages[static_cast<size_t>(row / 64)] << ", position " << row << " on";
    }
  }

 private:
  static size_t Slot(const step::StepSequence& part, int64_t row) {
    return static_cast<size_t>(int64_t{part.pages[static_cast<size_t>(row / 64)]} * 64 + row % 64);
  }
  std::vector<uint64_t> rows_;  // by page and slot
};

}  // namespace sluice::schedule
