#include "ops/cuda/hopper.cuh"
#include "ops/cuda/index_scores_kernel.h"
#include "ops/cuda/index_sums.cuh"

// Scores of a few rows of one sequence, where a launch is a chain of waits: the rows' positions, their page
// numbers, the keys, a product, a sum. Each block takes as many neighbouring pages as any other. One warp
// brings them, each with a barrier of its own; warpgroups multiply and sum a page at a time each, with no
// more columns than the rows have heads. The tensor cores have little to do, so one group's waits are hidden
// by the others.
namespace sluice::ops::cuda {
namespace {

constexpr int kSlots = 16;  // pages in shared memory

// Warpgroups that multiply: as many as have registers for the accumulators and gates of so many columns.
template <int kColumns>
constexpr int kMathGroups = kColumns == 64 ? 4 : 3;
template <int kColumns>
constexpr int kThreads = 128 * kMathGroups<kColumns> + 32;

template <int kColumns>
struct Shared {
  alignas(1024) uint8_t queries[kColumns * 128];
  alignas(1024) uint8_t pages[kSlots][kPageRoom];
  uint64_t full[kSlots];
  uint64_t empty[kSlots];
  uint64_t queries_full;
  alignas(16) float gates[kColumns];
};

// The pages of this block.
struct Share {
  int32_t first;
  int32_t count;
};
__device__ Share ShareOf(int32_t last) {
  const int32_t pages = last / kPageKeys + 1;
  const auto blocks = static_cast<int32_t>(gridDim.x);
  const int32_t each = (pages + blocks - 1) / blocks;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * each;
  return {first, min(each, pages - first)};
}

template <int kHeads, int kColumns>
__device__ void Bring(const IndexScores& work, const CUtensorMap* queries, const CUtensorMap* keys,
                      Shared<kColumns>& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int32_t sequence = work.groups[0].sequence;
  const int32_t mine = lane < work.rows ? work.positions[lane] : 0;
  if (lane == 0) {
    constexpr int kBoxes = kColumns / kQueryBox;
    const auto gate_bytes = static_cast<uint32_t>(work.rows) * kHeads * 4;
    ArriveExpecting(&shared.queries_full, kColumns * 128 + gate_bytes);
    CopyBytes(work.gates, shared.gates, gate_bytes, &shared.queries_full);
    for (int i = 0; i < kBoxes; ++i) {
      CopyBox(queries, shared.queries + i * kQueryBox * 128, &shared.queries_full, 0, i * kQueryBox);
    }
  }
  const Share share = ShareOf(__reduce_max_sync(~0U, mine));
  const int32_t* table = work.page_tables + sequence * work.table_stride + share.first;
  // A lane for each slot.
  for (int32_t page = lane; page < share.count && lane < kSlots; page += kSlots) {
    const int32_t number = table[page];
    if (page >= kSlots) Wait(&shared.empty[lane], (page / kSlots - 1) & 1);
    ArriveExpecting(&shared.full[lane], kPageBytes);
    CopyBox(keys, shared.pages[lane], &shared.full[lane], 0, number * kPageLines);
  }
  // A block whose share is empty still has to wait for its copies.
  if (lane == 0) Wait(&shared.queries_full, 0);
}

template <int kHeads, int kColumns>
__device__ void Score(const IndexScores& work, int group, Shared<kColumns>& shared) {
  constexpr int kRows = kColumns / kHeads;
  int32_t last[kRows];
  int32_t furthest = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    last[r] = r < work.rows ? work.positions[r] : -1;
    furthest = max(furthest, last[r]);
  }
  const Share share = ShareOf(furthest);
  if (group >= share.count) return;
  Wait(&shared.queries_full, 0);
  Summer<kHeads, kColumns> summer(work, 0, last, share.first, shared.gates);
  const uint32_t queries = SharedAddress(shared.queries);
  for (int32_t page = group; page < share.count; page += kMathGroups<kColumns>) {
    const int slot = page % kSlots;
    const uint32_t at = SharedAddress(shared.pages[slot]);
    float d[kColumns / 2];
    Wait(&shared.full[slot], page / kSlots & 1);
    Multiply(d, at, queries);
    const float scale = summer.Scale(at);
    WaitFor(d);
    if (threadIdx.x % 32 == 0) Arrive(&shared.empty[slot]);
    summer.Store(d, scale, page);
  }
}

template <int kHeads, int kColumns>
__global__ void __launch_bounds__(kThreads<kColumns>, 1)
    FewKernel(const IndexScores work, const __grid_constant__ CUtensorMap queries,
              const __grid_constant__ CUtensorMap keys) {
  extern __shared__ uint8_t memory[];
  Shared<kColumns>& shared =
      *reinterpret_cast<Shared<kColumns>*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  const int warp = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0);
  constexpr int kBringer = 4 * kMathGroups<kColumns>;
  if (threadIdx.x == 32 * kBringer) {
    PrefetchMap(&queries);
    PrefetchMap(&keys);
    for (int i = 0; i < kSlots; ++i) {
      InitBarrier(&shared.full[i], 1);
      InitBarrier(&shared.empty[i], 4);
    }
    InitBarrier(&shared.queries_full, 1);
    FenceBarrierInit();
    if (blockIdx.x == 0 && work.record != nullptr) TellOfLaunch(work.record);
  }
  __syncthreads();
  if (warp == kBringer) {
    Bring<kHeads, kColumns>(work, &queries, &keys, shared);
  } else {
    Score<kHeads, kColumns>(work, warp / 4, shared);
  }
}

template <int kHeads, int kColumns>
cudaError_t LaunchAs(const IndexScores& work, const CUtensorMap& queries, const CUtensorMap& keys, int sms,
                     cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared<kColumns>)) + 1024;
  if (const cudaError_t error = cudaFuncSetAttribute(FewKernel<kHeads, kColumns>,
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  FewKernel<kHeads, kColumns>
      <<<static_cast<unsigned>(sms), kThreads<kColumns>, kBytes, stream>>>(work, queries, keys);
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchFew(const IndexScores& work, const CUtensorMap& queries, const CUtensorMap& keys, int sms,
                      cudaStream_t stream) {
  const bool one_box = work.rows * work.heads <= kQueryBox;
  if (work.heads == 64) {
    return one_box ? LaunchAs<64, 64>(work, queries, keys, sms, stream)
                   : LaunchAs<64, 128>(work, queries, keys, sms, stream);
  }
  return one_box ? LaunchAs<32, 64>(work, queries, keys, sms, stream)
                 : LaunchAs<32, 128>(work, queries, keys, sms, stream);
}

}  // namespace sluice::ops::cuda
