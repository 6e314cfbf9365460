#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "distances.h"
#include "gpu_run.h"
#include "jitter_ops.h"
#include "one_rank.h"

// Whether against_cpu_test.cc would notice: the CPU back end with one rule of the model broken must lie
// further from the right one than the noise that the test allows for, in the logits or in what a layer
// chooses. Needs no GPU.
namespace sluice::gpu {
namespace {

constexpr int64_t kRows = 200;

const std::string& Model() {
  static const std::string model =
      "random:tiny?dtype=fp8&layers=3&hidden=512&heads=8&topk=64&experts=16&index_heads=32&embedding_gain=64";
  return model;
}

OneRank::Fed Answer(const OneRank::Wrap& wrap) {
  OneRank cpu(Model(), "cpu", ops::CacheFormat::kFp8, kRows, wrap);
  return cpu.Feed(Prompt(kRows, 3, cpu.vocabulary()), 0);
}

const OneRank::Fed& Right() {
  static const OneRank::Fed right = Answer(nullptr);
  return right;
}
const Distances& Noise() {
  static const Distances noise =
      DistancesOf(Answer([](std::unique_ptr<ops::Ops> ops) {
                    return std::make_unique<JitterOps>(std::move(ops), kTensorCoreError);
                  }),
                  Right(), 1024);
  return noise;
}

using layouts::CountingOps;
struct Mutant : CountingOps {
  explicit Mutant(std::unique_ptr<ops::Ops> inner) : CountingOps(std::move(inner), log) {}
  layouts::OpLog log;
};

struct OneKeyFewer : Mutant {
  using Mutant::Mutant;
  void SparseAttention(const ops::AttentionShape& shape, const Tensor& q, const ops::PagedCache& latents,
                       std::span<const ops::RowPlace> places, std::span<const ops::PageTable> pages,
                       const Tensor& selection, float scale, const Tensor& o) override {
    for (int64_t row = 0; row < selection.rows; ++row) {
      auto* keys = selection.Row<int32_t>(row);
      auto* end = std::find(keys, keys + selection.cols, -1);
      if (end - keys > 1) end[-1] = -1;
    }
    Mutant::SparseAttention(shape, q, latents, places, pages, selection, scale, o);
  }
};
struct SoftmaxScaleOff : Mutant {
  using Mutant::Mutant;
  void SparseAttention(const ops::AttentionShape& shape, const Tensor& q, const ops::PagedCache& latents,
                       std::span<const ops::RowPlace> places, std::span<const ops::PageTable> pages,
                       const Tensor& selection, float scale, const Tensor& o) override {
    Mutant::SparseAttention(shape, q, latents, places, pages, selection, 1.3F * scale, o);
  }
};
struct IndexerRopeOfTheOtherKind : Mutant {
  using Mutant::Mutant;
  void IndexQueries(const ops::IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates) override {
    Mutant::IndexQueries(Other(shape), q, gate_logits, angles, queries, gates);
  }
  void IndexKeyRows(const ops::IndexerShape& shape, const Tensor& k, const Tensor& weight, const Tensor& bias,
                    const Tensor& angles, const Tensor& rows) override {
    Mutant::IndexKeyRows(Other(shape), k, weight, bias, angles, rows);
  }
  static ops::IndexerShape Other(ops::IndexerShape shape) {
    shape.rope_interleaved = !shape.rope_interleaved;
    return shape;
  }
};
struct NoIndexNormBias : Mutant {
  using Mutant::Mutant;
  void IndexKeyRows(const ops::IndexerShape& shape, const Tensor& k, const Tensor& weight, const Tensor& bias,
                    const Tensor& angles, const Tensor& rows) override {
    const OwnedTensor none(DType::kF32, 1, bias.cols);
    Mutant::IndexKeyRows(shape, k, weight, none, angles, rows);
  }
};
struct RouterBiasIgnored : Mutant {
  using Mutant::Mutant;
  void Route(const ops::RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
             const Tensor& weights) override {
    const OwnedTensor none(DType::kF32, 1, bias.cols);
    Mutant::Route(shape, logits, none, ids, weights);
  }
};
struct OneExpertFewer : Mutant {
  using Mutant::Mutant;
  void Route(const ops::RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
             const Tensor& weights) override {
    Mutant::Route(shape, logits, bias, ids, weights);
    for (int64_t row = 0; row < weights.rows; ++row) weights.At<float>(row, weights.cols - 1) = 0.0F;
  }
};
struct GateAndUpSwapped : Mutant {
  using Mutant::Mutant;
  void SwiGlu(const Tensor& gate, const Tensor& up, const ops::Activation& y) override {
    Mutant::SwiGlu(up, gate, y);
  }
};
struct PositionsOffByOne : Mutant {
  using Mutant::Mutant;
  // The rotated part of the queries alone.
  void AbsorbQuery(const ops::AttentionShape& shape, const Tensor& q, const ops::WeightGroup& up_keys,
                   const Tensor& angles, const Tensor& q_latent) override {
    OwnedTensor other(DType::kF32, angles.rows, angles.cols);
    for (int64_t row = 0; row < angles.rows; ++row) {
      std::copy_n(angles.Row<const float>(std::max<int64_t>(row - 1, 0)), angles.cols,
                  other.view().Row<float>(row));
    }
    Mutant::AbsorbQuery(shape, q, up_keys, other, q_latent);
  }
};

template <class M>
Distances DistancesWith() {
  return DistancesOf(
      Answer([](std::unique_ptr<ops::Ops> ops) { return std::make_unique<M>(std::move(ops)); }), Right(),
      1024);
}

template <class M>
class MutantsTest : public testing::Test {};
using Mutants = testing::Types<OneKeyFewer, SoftmaxScaleOff, IndexerRopeOfTheOtherKind, NoIndexNormBias,
                               RouterBiasIgnored, OneExpertFewer, GateAndUpSwapped, PositionsOffByOne>;
TYPED_TEST_SUITE(MutantsTest, Mutants);

TYPED_TEST(MutantsTest, AreFurtherThanTheNoise) {
  const Distances mutant = DistancesWith<TypeParam>();
  bool noticed = mutant.At(0.5) > kMostOverNoise * Noise().At(0.5);
  std::printf("logits %.2e, of noise %.2e; other keys", mutant.At(0.5), Noise().At(0.5));
  for (size_t layer = 0; layer < mutant.selection.size(); ++layer) {
    std::printf(" %.2e (%.2e)", mutant.selection[layer], Noise().selection[layer]);
    noticed = noticed || mutant.selection[layer] > kMostOverNoise * Noise().selection[layer] + kFewKeys;
  }
  std::printf("\n");
  EXPECT_TRUE(noticed);
}

}  // namespace
}  // namespace sluice::gpu
