#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

// The instructions of sm_90a that CUDA C++ has no function for, under the names of the PTX manual.
// Warpgroup: four consecutive warps whose first has an index divisible by four.
namespace sluice::ops::cuda {

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- mbarrier: a phase ends when `arrivals` threads have arrived and all announced bytes have come ----

__device__ inline void InitBarrier(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals));
}
// Makes initialised barriers visible to the copy engine.
__device__ inline void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void Arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
__device__ inline void ArriveExpecting(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(bytes)
               : "memory");
}
// Until the phase of this parity is over. The hardware suspends the thread between its looks.
__device__ inline void Wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// Whether it is, without waiting.
__device__ inline bool IsOver(uint64_t* barrier, uint32_t parity) {
  uint32_t over = 0;
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.u32 %0, 1, 0, done;\n"
      "}\n"
      : "=r"(over)
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
  return over != 0;
}

// ---- copies by a thread of 16 bytes each, which it does not wait for ----

// Both addresses are multiples of 16. !present: writes zeros and reads nothing.
__device__ inline void CopySixteen(const void* from, void* shared, bool present) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared)),
               "l"(from), "r"(present ? 16 : 0)
               : "memory");
}
// The thread's arrival, when its copies so far are done.
__device__ inline void ArriveAfterCopies(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(barrier))
               : "memory");
}
__device__ inline void CopyFour(const void* from, void* shared, bool present) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(SharedAddress(shared)), "l"(from),
               "r"(present ? 4 : 0)
               : "memory");
}
__device__ inline void WaitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
// The thread's copies since the last call are a group; waits until all but the latest kGroups groups are
// done.
__device__ inline void EndCopyGroup() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroups>
__device__ inline void WaitForCopyGroups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// 16 bytes of global memory; !present: zeros, and reads nothing. Nothing waits for them before they are used.
__device__ inline uint4 LoadGlobalSixteen(const void* from, bool present) {
  uint4 value;
  asm volatile(
      "{\n"
      ".reg .pred present;\n"
      "setp.ne.b32 present, %5, 0;\n"
      "mov.b32 %0, 0;\n"
      "mov.b32 %1, 0;\n"
      "mov.b32 %2, 0;\n"
      "mov.b32 %3, 0;\n"
      "@present ld.global.L1::no_allocate.L2::128B.v4.b32 {%0, %1, %2, %3}, [%4];\n"
      "}\n"
      : "=&r"(value.x), "=&r"(value.y), "=&r"(value.z), "=&r"(value.w)
      : "l"(from), "r"(static_cast<int>(present))
      : "memory");
  return value;
}

// ---- 4, 8 or 16 bytes at a shared address, loaded and stored where it is written ----

__device__ inline uint2 LoadEight(uint32_t address) {
  uint2 value;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "r"(address) : "memory");
  return value;
}
__device__ inline uint4 LoadSixteen(uint32_t address) {
  uint4 value;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(address)
               : "memory");
  return value;
}
__device__ inline float LoadFloat(uint32_t address) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
}
__device__ inline void StoreSixteen(uint32_t address, const uint4& value) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

// Four matrices of 8 rows of 16 bytes, lane l having the address of row l % 8 of matrix l / 8. Of matrix i it
// gets in values[i] the bytes 4 (l % 4) and on of row l / 4.
__device__ inline void LoadMatrices(uint32_t address, uint32_t (&values)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3])
               : "r"(address)
               : "memory");
}

// True in one lane of a warp that runs together, in the same one each time. Of what it guards the compiler
// knows that one thread does it, and need not ask so at each tensor copy.
__device__ inline bool Elected() {
  uint32_t elected = 0;
  asm volatile(
      "{\n"
      ".reg .pred chosen;\n"
      "elect.sync _|chosen, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, chosen;\n"
      "}\n"
      : "=r"(elected));
  return elected != 0;
}

// ---- tensor copy: a box of a two-dimensional tensor to shared memory; outside the tensor it reads zeros
// ----

__device__ inline void CopyBox(const CUtensorMap* map, void* shared, uint64_t* barrier, int32_t column,
                               int32_t row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4}], [%2];" ::"r"(SharedAddress(shared)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(column), "r"(row)
      : "memory");
}
// `bytes` of global memory as they are; addresses and size are multiples of 16.
__device__ inline void CopyBytes(const void* from, void* shared, uint32_t bytes, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          SharedAddress(shared)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}
// CopyBox for all blocks of a cluster: to the same place in each one's shared memory, and its barrier there.
template <int kBlocks>
__device__ inline void CopyBoxToCluster(const CUtensorMap* map, void* shared, uint64_t* barrier,
                                        int32_t column, int32_t row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(SharedAddress(shared)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(column), "r"(row),
      "h"(static_cast<uint16_t>((1 << kBlocks) - 1))
      : "memory");
}
__device__ inline void PrefetchMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// ---- wgmma: D[64, n] += A[64, k] B[n, k]^T, A and B in shared memory, D in a warpgroup's registers ----
//
// D: with w the warp in the warpgroup and l the lane, d[4 j + 2 i + c] is element
// (16 w + l / 4 + 8 i, 8 j + 2 (l % 4) + c).

// A tile of rows of 128 bytes, K-major, as CopyBox writes it with a swizzle of 128 bytes; 1,024-byte aligned.
// Inside a row of 128 bytes k advances with Advance.
__device__ inline uint64_t TileDescriptor(const void* tile) {
  constexpr uint64_t kSwizzle128 = 1ULL << 62;
  constexpr uint64_t kEightRows = (1024ULL >> 4) << 32;
  return kSwizzle128 | kEightRows | (1ULL << 16) | ((SharedAddress(tile) & 0x3ffffU) >> 4);
}
// The descriptor `bytes` further on. Its upper half is a constant for the compiler, which an addition of 64
// bits would hide from it.
__device__ inline uint64_t Advance(uint64_t descriptor, int bytes) {
  return (descriptor & 0xffffffff00000000ULL) | (static_cast<uint32_t>(descriptor) + bytes / 16);
}
// Such tiles of 64 rows, one behind the other, read with their columns as n and their rows as k: [k, n]
// rather than [n, k], 64 columns from each tile. k advances by 16 rows, 2,048 bytes.
__device__ inline uint64_t ColumnsDescriptor(const void* tiles) {
  constexpr uint64_t kNextTile = (64ULL * 128 >> 4) << 16;
  return (TileDescriptor(tiles) & ~(0x3fffULL << 16)) | kNextTile;
}
// Makes what this thread has written to shared memory, or has seen written, visible to wgmma.
__device__ inline void FenceShared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The same of global memory, for copies of whole pieces of it. Of memory of any kind (fence.proxy.async) it
// would be compiled with two membars in front, one of the whole GPU.
__device__ inline void FenceGlobal() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

__device__ inline void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kGroups>
__device__ inline void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
// Keeps the compiler from moving reads and writes of accumulators past a wgmma that is under way.
template <int kCount>
__device__ inline void Pin(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// An instruction's operands: the registers' places in its text, and d[...] for them.
#define SLUICE_TEN(t) \
  "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define SLUICE_THIRTY SLUICE_TEN() SLUICE_TEN(1) SLUICE_TEN(2)
#define SLUICE_SIXTY SLUICE_THIRTY SLUICE_TEN(3) SLUICE_TEN(4) SLUICE_TEN(5)
#define SLUICE_NINETY SLUICE_SIXTY SLUICE_TEN(6) SLUICE_TEN(7) SLUICE_TEN(8)
#define SLUICE_HUNDRED_TWENTY SLUICE_NINETY SLUICE_TEN(9) SLUICE_TEN(10) SLUICE_TEN(11)
#define SLUICE_PLACES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define SLUICE_PLACES_16 SLUICE_TEN() "%10, %11, %12, %13, %14, %15"
#define SLUICE_PLACES_32 SLUICE_THIRTY "%30, %31"
#define SLUICE_PLACES_64 SLUICE_SIXTY "%60, %61, %62, %63"
#define SLUICE_PLACES_96 SLUICE_NINETY "%90, %91, %92, %93, %94, %95"
#define SLUICE_PLACES_128 SLUICE_HUNDRED_TWENTY "%120, %121, %122, %123, %124, %125, %126, %127"
#define SLUICE_FOUR(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define SLUICE_SIXTEEN(i) SLUICE_FOUR(i), SLUICE_FOUR((i) + 4), SLUICE_FOUR((i) + 8), SLUICE_FOUR((i) + 12)
#define SLUICE_REGISTERS_8 SLUICE_FOUR(0), SLUICE_FOUR(4)
#define SLUICE_REGISTERS_16 SLUICE_SIXTEEN(0)
#define SLUICE_REGISTERS_32 SLUICE_SIXTEEN(0), SLUICE_SIXTEEN(16)
#define SLUICE_REGISTERS_64 SLUICE_REGISTERS_32, SLUICE_SIXTEEN(32), SLUICE_SIXTEEN(48)
#define SLUICE_REGISTERS_96 SLUICE_REGISTERS_64, SLUICE_SIXTEEN(64), SLUICE_SIXTEEN(80)
#define SLUICE_REGISTERS_128 SLUICE_REGISTERS_96, SLUICE_SIXTEEN(96), SLUICE_SIXTEEN(112)

// A function over one instruction with `count` registers of D; a, b and p are the places behind them,
// `modifiers` what follows p. !accumulate: D is overwritten.
#define SLUICE_WGMMA(name, instruction, count, a_place, b_place, p_place, modifiers)       \
  __device__ inline void name(float(&d)[count], uint64_t a, uint64_t b, bool accumulate) { \
    asm volatile(                                                                          \
        "{\n"                                                                              \
        ".reg .pred p;\n"                                                                  \
        "setp.ne.b32 p, %" #p_place                                                        \
        ", 0;\n"                                                                           \
        "wgmma.mma_async.sync.aligned." instruction " {" SLUICE_PLACES_##count             \
        "}, %" #a_place ", %" #b_place ", p, " modifiers                                   \
        ";\n"                                                                              \
        "}\n"                                                                              \
        : SLUICE_REGISTERS_##count                                                         \
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                              \
  }

// n = 16, 32, 64, 128 or 192, by the registers of D; k = 32 e4m3 values.
SLUICE_WGMMA(WgmmaE4M3, "m64n16k32.f32.e4m3.e4m3", 8, 8, 9, 10, "1, 1")
SLUICE_WGMMA(WgmmaE4M3, "m64n32k32.f32.e4m3.e4m3", 16, 16, 17, 18, "1, 1")
SLUICE_WGMMA(WgmmaE4M3, "m64n64k32.f32.e4m3.e4m3", 32, 32, 33, 34, "1, 1")
SLUICE_WGMMA(WgmmaE4M3, "m64n128k32.f32.e4m3.e4m3", 64, 64, 65, 66, "1, 1")
SLUICE_WGMMA(WgmmaE4M3, "m64n192k32.f32.e4m3.e4m3", 96, 96, 97, 98, "1, 1")
// n = 16, 32, 64, 128 or 256; k = 16 bf16 values.
SLUICE_WGMMA(WgmmaBf16, "m64n16k16.f32.bf16.bf16", 8, 8, 9, 10, "1, 1, 0, 0")
SLUICE_WGMMA(WgmmaBf16, "m64n32k16.f32.bf16.bf16", 16, 16, 17, 18, "1, 1, 0, 0")
SLUICE_WGMMA(WgmmaBf16, "m64n64k16.f32.bf16.bf16", 32, 32, 33, 34, "1, 1, 0, 0")
SLUICE_WGMMA(WgmmaBf16, "m64n128k16.f32.bf16.bf16", 64, 64, 65, 66, "1, 1, 0, 0")
SLUICE_WGMMA(WgmmaBf16, "m64n256k16.f32.bf16.bf16", 128, 128, 129, 130, "1, 1, 0, 0")
// n = 64 or 128, k = 16 bf16 values; b is a ColumnsDescriptor.
SLUICE_WGMMA(WgmmaBf16Columns, "m64n64k16.f32.bf16.bf16", 32, 32, 33, 34, "1, 1, 0, 1")
SLUICE_WGMMA(WgmmaBf16Columns, "m64n128k16.f32.bf16.bf16", 64, 64, 65, 66, "1, 1, 0, 1")

// n = 64; k = 16 bf16 values, the first operand in registers: those of queries (16 w + l / 4 + 8 (i % 2)) and
// channels 8 (i / 2) + 2 (l % 4) and the next in a[i].
__device__ inline void WgmmaBf16(float (&d)[32], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" SLUICE_PLACES_32
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;\n"
      "}\n"
      : SLUICE_REGISTERS_32
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)));
}

#undef SLUICE_WGMMA
#undef SLUICE_REGISTERS_128
#undef SLUICE_REGISTERS_96
#undef SLUICE_REGISTERS_64
#undef SLUICE_REGISTERS_32
#undef SLUICE_REGISTERS_16
#undef SLUICE_REGISTERS_8
#undef SLUICE_SIXTEEN
#undef SLUICE_FOUR
#undef SLUICE_PLACES_128
#undef SLUICE_PLACES_96
#undef SLUICE_PLACES_64
#undef SLUICE_PLACES_32
#undef SLUICE_PLACES_16
#undef SLUICE_PLACES_8
#undef SLUICE_HUNDRED_TWENTY
#undef SLUICE_NINETY
#undef SLUICE_SIXTY
#undef SLUICE_THIRTY
#undef SLUICE_TEN

// ---- clusters: blocks that run at the same time and reach each other's shared memory ----

__device__ inline uint32_t ClusterRank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// All threads of all blocks of the cluster meet; it orders no memory but initialised barriers
// (FenceBarrierInit).
__device__ inline void MeetCluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
// Where block `rank` has what this block has at `pointer`.
__device__ inline uint32_t AddressIn(uint32_t rank, const void* pointer) {
  uint32_t address = 0;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(address)
               : "r"(SharedAddress(pointer)), "r"(rank));
  return address;
}
__device__ inline void ArriveIn(uint32_t rank, uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(AddressIn(rank, barrier)) : "memory");
}
// At the barrier of any block of the cluster, by its address (AddressIn).
__device__ inline void ArriveAt(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// A word into block `rank`, whose barrier is told of its four bytes.
__device__ inline void SendWord(uint32_t rank, int32_t* word, int32_t value, uint64_t* barrier) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(
                   AddressIn(rank, word)),
               "r"(value), "r"(AddressIn(rank, barrier))
               : "memory");
}

// ---- launches that follow one another (LaunchBehind in sparse_attention_launch.h) ----

// Once all blocks have said so or are done, the next launch's blocks may take what room there is.
__device__ inline void LetDependentsStart() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
// Until the launch before is done and what it wrote can be seen.
__device__ inline void WaitForEarlierGrids() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// ---- registers of a warpgroup ----

template <int kRegisters>
__device__ inline void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace sluice::ops::cuda
