#pragma once

#include <cstdint>
#include <vector>

#include "layout_world.h"

// Which layouts a run of the matrix tests.
namespace sluice::layouts {

// pp {1,2,3,4} x cp {1,2,4} x atp {1,2} x expert owners {one, all} x virtual stages {1,2} x {F32, FP8}: every
// combination once, each with a split mode, a chunk size, a dense cut and a kind of ranks drawn by `seed`.
std::vector<Layout> CompleteMatrix(uint64_t seed);

// A sample of all axes together in which every value, and every pair of values of two axes, occurs.
std::vector<Layout> PairwiseSample(uint64_t seed);

// CompleteMatrix when the environment has SLUICE_LAYOUTS=all, else PairwiseSample; the seed is
// SLUICE_LAYOUT_SEED, by default 1. Prints what it chose.
std::vector<Layout> ChosenLayouts();

}  // namespace sluice::layouts
