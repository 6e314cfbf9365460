#pragma once

// Instruction sets the kernels are compiled for. Only those with a fused multiply-add in hardware, and plain
// scalar code (whose std::fma is exact too, only slow) as the fallback that Highway wants on x86-64. Scalable
// vectors (SVE, RVV) are left out because the kernels keep vectors in arrays. Included before any Highway
// header.
//
// HWY_BROKEN_EMU128: with every compiler the fallback is HWY_SCALAR and not emulated vectors, whose
// multiply-add rounds twice.
#define HWY_BROKEN_EMU128 1
#define HWY_DISABLED_TARGETS                                                                         \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_PPC8 | \
   HWY_RVV | HWY_WASM | HWY_WASM_EMU256 | HWY_EMU128)
