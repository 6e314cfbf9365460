#pragma once

#include <cstdint>

#include "ops/cpu/gemm.h"

namespace sluice::ops::cpu {

// Rows of x in the order the micro-kernel reads them: blocks of kRowBlock rows, each [k][rows in the block];
// the last block is narrower. FP8 linears hold the values of e4m3 codes and their scales,
// [ceil(k/128)][rows].
struct PackedRows {
  float* values = nullptr;
  float* scales = nullptr;  // nullptr: not quantised
  int64_t rows = 0;
  int64_t k = 0;

  int64_t RowsOfBlock(int64_t block) const {
    const int64_t left = rows - block * kRowBlock;
    return left < kRowBlock ? left : kRowBlock;
  }
  float* Values(int64_t block) const { return values + block * kRowBlock * k; }
  float* Scales(int64_t block) const {
    return scales == nullptr ? nullptr : scales + block * kRowBlock * ((k + kQuantBlock - 1) / kQuantBlock);
  }
};

// Fills block `block` of `packed` from the rows of x: F32, BF16, U8 as an Activation has them quantised, or,
// unscaled, F8_E4M3.
void PackRowBlock(const Tensor& x, const PackedRows& packed, int64_t block);

// A unit of work: some row blocks times some panels of a weight.
struct LinearTile {
  int64_t first_block = 0;
  int64_t end_block = 0;  // at most kTileBlocks further on
  int64_t first_panel = 0;
  int64_t end_panel = 0;  // at most kTilePanels further on
};

// Computes the columns of the tile's panels for the rows of its blocks and writes them to y.
void MultiplyTile(const PackedRows& packed, const PackedWeight& weight, const LinearTile& tile,
                  const Tensor& y);

}  // namespace sluice::ops::cpu
