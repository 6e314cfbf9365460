#include "layout_sample.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <tuple>

namespace sluice::layouts {
namespace {

// The axes by their number of values; a point of the matrix is a value index on each.
enum Axis { kStages, kCp, kAtp, kOwners, kVirtual, kType, kMode, kChunk, kRanks, kDense, kAxes };
constexpr std::array<int, kAxes> kValues = {4, 3, 2, 2, 2, 2, 2, 3, 2, 2};
constexpr int kMatrixAxes = kMode;  // those of the complete matrix
using Point = std::array<int, kAxes>;

Layout LayoutOf(const Point& at) {
  constexpr int kCpSizes[] = {1, 2, 4};
  constexpr int64_t kChunks[] = {100000, 256, 96};
  Layout layout;
  layout.stages = at[kStages] + 1;
  layout.attn_tp = at[kAtp] + 1;
  layout.lanes = kCpSizes[at[kCp]] * layout.attn_tp;
  layout.one_owner = at[kOwners] == 1;
  layout.virtual_stages = at[kVirtual] + 1;
  layout.fp8 = at[kType] == 1;
  layout.mode = at[kMode] == 0 ? parallel::SplitMode::kInterleave : parallel::SplitMode::kZigzag;
  layout.chunk = kChunks[at[kChunk]];
  layout.processes = at[kRanks] == 1;
  layout.dense_tp = at[kDense] == 1;
  return layout;
}

Point RandomPoint(std::mt19937_64& random) {
  Point at{};
  for (int axis = 0; axis < kAxes; ++axis) at[axis] = static_cast<int>(random() % kValues[axis]);
  return at;
}

using Pair = std::tuple<int, int, int, int>;  // axis, value, axis, value

std::vector<Pair> PairsOf(const Point& at) {
  std::vector<Pair> pairs;
  for (int a = 0; a < kAxes; ++a) {
    for (int b = a + 1; b < kAxes; ++b) pairs.emplace_back(a, at[a], b, at[b]);
  }
  return pairs;
}

std::set<Pair> AllPairs() {
  std::set<Pair> pairs;
  for (int a = 0; a < kAxes; ++a) {
    for (int b = a + 1; b < kAxes; ++b) {
      for (int x = 0; x < kValues[a]; ++x) {
        for (int y = 0; y < kValues[b]; ++y) pairs.emplace(a, x, b, y);
      }
    }
  }
  return pairs;
}

}  // namespace

std::vector<Layout> CompleteMatrix(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Layout> layouts;
  int64_t points = 1;
  for (int axis = 0; axis < kMatrixAxes; ++axis) points *= kValues[axis];
  for (int64_t number = 0; number < points; ++number) {
    Point at = RandomPoint(random);
    int64_t rest = number;
    for (int axis = 0; axis < kMatrixAxes; ++axis) {
      at[axis] = static_cast<int>(rest % kValues[axis]);
      rest /= kValues[axis];
    }
    layouts.push_back(LayoutOf(at));
  }
  return layouts;
}

// Greedy: of some random points the one with the most pairs that have not occurred, until all have.
std::vector<Layout> PairwiseSample(uint64_t seed) {
  constexpr int kCandidates = 200;
  std::mt19937_64 random(seed);
  std::set<Pair> left = AllPairs();
  std::vector<Layout> layouts;
  while (!left.empty()) {
    Point best{};
    size_t most = 0;
    for (int candidate = 0; candidate < kCandidates; ++candidate) {
      Point at = RandomPoint(random);
      // Begin from a pair that is still wanted, so that the last ones are found too.
      const auto& [a, x, b, y] = *left.begin();
      at[a] = x;
      at[b] = y;
      size_t count = 0;
      for (const Pair& pair : PairsOf(at)) count += left.contains(pair) ? 1 : 0;
      if (count > most) {
        most = count;
        best = at;
      }
    }
    for (const Pair& pair : PairsOf(best)) left.erase(pair);
    layouts.push_back(LayoutOf(best));
  }
  return layouts;
}

std::vector<Layout> ChosenLayouts() {
  const char* which = std::getenv("SLUICE_LAYOUTS");
  const char* seed_text = std::getenv("SLUICE_LAYOUT_SEED");
  const uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : 1;
  const bool all = which != nullptr && std::strcmp(which, "all") == 0;
  const std::vector<Layout> layouts = all ? CompleteMatrix(seed) : PairwiseSample(seed);
  fmt::print(stderr, "{} layouts, {}, seed {}\n", layouts.size(),
             all ? "the complete matrix" : "every pair of values (SLUICE_LAYOUTS=all: the complete matrix)",
             seed);
  return layouts;
}

}  // namespace sluice::layouts
