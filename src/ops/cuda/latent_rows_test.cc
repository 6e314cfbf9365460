#include "ops/cuda/latent_rows.h"

#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"
#include "ops/rope.h"

namespace sluice::ops::cuda {
namespace {

class Latents : public OnGpu, public testing::WithParamInterface<bool> {};

// Rows lie apart and beside index rows, as they travel; a latent of 0 is legal.
TEST_P(Latents, AreCloseToTheReference) {
  constexpr int64_t kRows = 130;
  const AttentionShape shape{128, 128, 64, 512, 128};
  const bool bf16_cache = GetParam();
  const int64_t row_bytes = LatentRowBytes(bf16_cache ? CacheFormat::kBf16 : CacheFormat::kFp8, 512, 64);
  std::mt19937_64 random(12);
  OwnedTensor kv = Random(random, DType::kBF16, kRows, shape.latent_width(), 2.0F);
  for (int64_t i = 0; i < shape.latent_width(); ++i) StoreFloat(kv, 5, i, 0.0F);
  const OwnedTensor norm = Random(random, DType::kF32, 1, shape.latent, 1.0F);
  OwnedTensor angles(DType::kF32, kRows, shape.rope);
  for (int64_t t = 0; t < kRows; ++t) {
    RopeRow(t * 999, InverseFrequencies({}), angles.view().Row<float>(t));
  }
  const Input on_norm(norm), on_angles(angles);
  Outputs truth;
  truth["rows"] = OwnedTensor(DType::kU8, kRows, row_bytes);
  MakeReferenceOps(Numerics::kFp8)->LatentRows(shape, kv, norm, 1e-6F, angles, truth["rows"]);
  for (const int64_t gap : {0, 132}) {
    const Input on_kv(kv, 3072);
    const auto run = [&](int64_t first, int64_t count) {
      const Output rows(DType::kU8, count, row_bytes, gap);
      LatentRows work;
      work.rows = count;
      work.latent = 512;
      work.rope = 64;
      work.kv = on_kv.Row(first);
      work.kv_stride = on_kv.stride();
      work.norm = on_norm.Row<float>(0);
      work.eps = 1e-6F;
      work.angles = on_angles.Row<float>(first);
      work.out = rows.data();
      work.out_stride = rows.stride();
      work.bf16_cache = bf16_cache;
      Must(Enqueue(work, nullptr));
      Outputs out;
      out["rows"] = rows.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, "latents");
    // Each part by itself: a wrong scale would be few bytes of all.
    const Outputs outputs = run(0, kRows);
    const Tensor all = outputs.at("rows");
    int64_t scales = 0, codes = 0, parts = 0;
    for (int64_t t = 0; t < kRows && !bf16_cache; ++t) {
      for (int64_t block = 0; block < 4; ++block, ++parts) {
        const auto differ = [&](int64_t at, int64_t bytes) {
          return std::memcmp(all.Row<uint8_t>(t) + at, truth["rows"].view().Row<uint8_t>(t) + at, bytes);
        };
        scales += differ(512 + 4 * block, 4) != 0 ? 1 : 0;
        codes += differ(128 * block, 128) != 0 ? 1 : 0;
      }
    }
    EXPECT_LE(scales, parts / 50);
    EXPECT_LE(codes, parts / 5);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Latents, testing::Bool(),
                         [](const auto& format) { return format.param ? "bf16" : "fp8"; });

}  // namespace
}  // namespace sluice::ops::cuda
