#include "ops/cuda/index_rows.h"

#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"
#include "ops/rope.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kRows = 130;
constexpr int64_t kDim = 128;

// DeepSeek-V3.2 and GLM-5: heads, and the order of rotary pairs.
struct Model {
  int32_t heads;
  bool interleaved;
};
void PrintTo(const Model& model, std::ostream* out) { *out << model.heads << " heads"; }

class IndexRows : public OnGpu, public testing::WithParamInterface<Model> {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    for (int64_t t = 0; t < kRows; ++t) {
      RopeRow(t * 1001, InverseFrequencies({}), angles_.view().Row<float>(t));
    }
  }
  IndexerShape Shape() const { return {GetParam().heads, kDim, 64, 2048, GetParam().interleaved}; }

  std::mt19937_64 random_{13};
  OwnedTensor angles_{DType::kF32, kRows, 64};
};

TEST_P(IndexRows, QueriesAndGatesAreCloseToTheReference) {
  const int32_t heads = GetParam().heads;
  const OwnedTensor q = Random(random_, DType::kBF16, kRows, heads * kDim, 1.0F);
  const OwnedTensor logits = Random(random_, DType::kF32, kRows, heads, 1.0F);
  const Input on_q(q, 16), on_logits(logits, 12), on_angles(angles_);
  Outputs truth;
  truth["queries"] = OwnedTensor(DType::kF8E4M3, kRows, heads * kDim);
  truth["gates"] = OwnedTensor(DType::kF32, kRows, heads);
  MakeReferenceOps(Numerics::kFp8)
      ->IndexQueries(Shape(), q, logits, angles_, truth["queries"], truth["gates"]);
  const auto run = [&](int64_t first, int64_t count) {
    const Output queries(DType::kF8E4M3, count, heads * kDim), gates(DType::kF32, count, heads);
    IndexQueries work;
    work.rows = count;
    work.heads = heads;
    work.rope = 64;
    work.rope_interleaved = GetParam().interleaved;
    work.q = on_q.Row(first);
    work.q_stride = on_q.stride();
    work.gate_logits = on_logits.Row<float>(first);
    work.gate_logits_stride = on_logits.stride();
    work.angles = on_angles.Row<float>(first);
    work.queries = queries.data();
    work.gates = gates.data<float>();
    Must(Enqueue(work, nullptr));
    Outputs out;
    out["queries"] = queries.Get();
    out["gates"] = gates.Get();
    return out;
  };
  ExpectRowsAreRight(run, truth, kRows, "the indexer");
}

TEST_P(IndexRows, KeysAreCloseToTheReference) {
  OwnedTensor k = Random(random_, DType::kBF16, kRows, kDim, 1.5F);
  for (int64_t i = 0; i < kDim; ++i) StoreFloat(k, 7, i, 1.0F);  // no deviation at all: the bias is left
  const OwnedTensor weight = Random(random_, DType::kF32, 1, kDim, 1.0F);
  const OwnedTensor bias = Random(random_, DType::kF32, 1, kDim, 0.1F);
  const Input on_k(k, 16), on_weight(weight), on_bias(bias), on_angles(angles_);
  Outputs truth;
  truth["rows"] = OwnedTensor(DType::kU8, kRows, kDim + 4);
  MakeReferenceOps(Numerics::kFp8)->IndexKeyRows(Shape(), k, weight, bias, angles_, truth["rows"]);
  for (const int64_t gap : {0, 656}) {
    const auto run = [&](int64_t first, int64_t count) {
      const Output rows(DType::kU8, count, kDim + 4, gap);
      IndexKeyRows work;
      work.rows = count;
      work.rope = 64;
      work.rope_interleaved = GetParam().interleaved;
      work.k = on_k.Row(first);
      work.k_stride = on_k.stride();
      work.weight = on_weight.Row<float>(0);
      work.bias = on_bias.Row<float>(0);
      work.angles = on_angles.Row<float>(first);
      work.out = rows.data();
      work.out_stride = rows.stride();
      Must(Enqueue(work, nullptr));
      Outputs out;
      out["rows"] = rows.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, "index keys");
    const Outputs outputs = run(0, kRows);
    const Tensor all = outputs.at("rows");
    int64_t scales = 0;
    for (int64_t t = 0; t < kRows; ++t) {
      scales += std::memcmp(all.Row<uint8_t>(t) + kDim, truth["rows"].view().Row<uint8_t>(t) + kDim, 4) != 0
                    ? 1
                    : 0;
    }
    EXPECT_EQ(scales, 0) << "of " << kRows << " scales";
  }
}

INSTANTIATE_TEST_SUITE_P(Models, IndexRows, testing::Values(Model{64, false}, Model{32, true}));

}  // namespace
}  // namespace sluice::ops::cuda
