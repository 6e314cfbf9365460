#include "ops/cuda/route.h"

#include "base/compute_pool.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kRows = 130;

class Routing : public OnGpu {
 protected:
  static void ExpectRight(Ops& right, const RouterShape& shape, const OwnedTensor& logits,
                          const OwnedTensor& bias) {
    const Input on_logits(logits, 8), on_bias(bias);
    Outputs truth;
    truth["ids"] = OwnedTensor(DType::kI32, kRows, shape.top_k);
    truth["weights"] = OwnedTensor(DType::kF32, kRows, shape.top_k);
    right.Route(shape, logits, bias, truth["ids"], truth["weights"]);
    const auto run = [&](int64_t first, int64_t count) {
      const Output ids(DType::kI32, count, shape.top_k, 4 * shape.top_k),
          weights(DType::kF32, count, shape.top_k);
      Route work;
      work.rows = count;
      work.experts = static_cast<int32_t>(shape.experts);
      work.groups = static_cast<int32_t>(shape.groups);
      work.top_groups = static_cast<int32_t>(shape.top_groups);
      work.top_k = static_cast<int32_t>(shape.top_k);
      work.normalize = shape.normalize;
      work.scale = shape.scale;
      work.logits = on_logits.Row<float>(first);
      work.logits_stride = on_logits.stride();
      work.bias = on_bias.Row<float>(0);
      work.ids = ids.data<int32_t>();
      work.ids_stride = ids.stride();
      work.weights = weights.data<float>();
      work.weights_stride = weights.stride();
      Must(Enqueue(work, nullptr));
      Outputs out;
      out["ids"] = ids.Get();
      out["weights"] = weights.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(shape.groups) + " groups");
  }

  const std::unique_ptr<Ops> reference_ = MakeReferenceOps(Numerics::kFp8);
};

const RouterShape kShapes[] = {
    {256, 8, 4, 8, true, 2.5F},    // DeepSeek-V3.2
    {256, 1, 1, 8, true, 2.5F},    // GLM-5
    {24, 4, 2, 5, false, 1.0F},    // no whole warp, no normalisation
    {512, 32, 3, 32, true, 2.5F},  // the limits
    {16, 16, 6, 6, true, 1.0F},    // groups of one
};

TEST_F(Routing, ChoosesAsTheReference) {
  for (const RouterShape& shape : kShapes) {
    std::mt19937_64 random(16);
    ExpectRight(*reference_, shape, Random(random, DType::kF32, kRows, shape.experts, 2.0F),
                Random(random, DType::kF32, 1, shape.experts, 0.1F));
  }
}

// Three values among all logits: groups and experts tie everywhere, and the lowest ids are taken.
TEST_F(Routing, GivesTiesToTheLowestId) {
  for (const RouterShape& shape : kShapes) {
    std::mt19937_64 random(17);
    OwnedTensor logits(DType::kF32, kRows, shape.experts);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t e = 0; e < shape.experts; ++e) {
        const float values[] = {0.0F, 2.0F, 3.0F};
        logits.view().At<float>(t, e) = values[random() % (t % 2 == 0 ? 3 : 2)];
      }
    }
    ExpectRight(*reference_, shape, logits, OwnedTensor(DType::kF32, 1, shape.experts));
  }
}

// The reference cannot sort NaN; the CPU back end ranks them last, groups that begin with one included.
TEST_F(Routing, RanksNaNAsTheCpuDoes) {
  ComputePool pool(1);
  for (const RouterShape& shape : kShapes) {
    std::mt19937_64 random(22);
    OwnedTensor logits = Random(random, DType::kF32, kRows, shape.experts, 2.0F);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < shape.experts / 12; ++i) {
        logits.view().At<float>(t, static_cast<int64_t>(random() % shape.experts)) = std::nanf("");
      }
    }
    ExpectRight(*MakeCpuOps(Numerics::kFp8, pool), shape, logits,
                Random(random, DType::kF32, 1, shape.experts, 0.1F));
  }
}

TEST_F(Routing, RefusesWhatDoesNotFit) {
  Route work;
  work.experts = 256;
  work.groups = 8;
  work.top_groups = 1;
  work.top_k = 33;
  EXPECT_EQ(Enqueue(work, nullptr), cudaErrorInvalidValue);
  work.top_k = 8;
  work.experts = 1024;
  EXPECT_EQ(Enqueue(work, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sluice::ops::cuda
