#include "ops/cpu/cpu_ops.h"

#include <gtest/gtest.h>

#include "ops/cpu/op_world.h"
#include "ops/reference/reference_ops.h"
#include "tensor/simd_targets.h"
// After targets.h, which chooses the instruction sets:
#include "hwy/highway.h"

namespace sluice::ops {
namespace {

constexpr int64_t kRows = 53;
using Outputs = std::map<std::string, OwnedTensor>;

struct Mode {
  Numerics numerics = Numerics::kExact;
  bool bf16_cache = false;
};

class CpuOpsTest : public testing::TestWithParam<Mode> {
 protected:
  static Numerics numerics() { return GetParam().numerics; }
  static OpWorld MakeWorld() { return OpWorld(numerics(), kRows, 7, GetParam().bf16_cache); }

  static void ExpectEqualBits(const Outputs& a, const Outputs& b, const std::string& what) {
    for (const auto& [name, tensor] : a) {
      EXPECT_EQ(std::memcmp(tensor.view().data, b.at(name).view().data, tensor.view().bytes()), 0)
          << name << " differs " << what;
    }
  }

  ComputePool pool_{2};
};

// The instruction sets of this machine, one at a time; the last Run uses the best again.
TEST_P(CpuOpsTest, EveryInstructionSetGivesTheSameBits) {
  OpWorld world = MakeWorld();
  const auto ops = MakeCpuOps(numerics(), pool_);
  const Outputs best = world.Run(*ops, 0, kRows);
  const std::vector<int64_t> targets = hwy::SupportedAndGeneratedTargets();
  for (const int64_t target : targets) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    const Outputs outputs = world.Run(*ops, 0, kRows);
    ExpectEqualBits(best, outputs, std::string("on ") + hwy::TargetName(target));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  RecordProperty("targets", static_cast<int>(targets.size()));
  EXPECT_GE(targets.size(), 1U);
}

TEST_P(CpuOpsTest, ThreadsDoNotChangeBits) {
  OpWorld world = MakeWorld();
  const auto ops = MakeCpuOps(numerics(), pool_);
  ComputePool alone(0);
  ExpectEqualBits(world.Run(*ops, 0, kRows), world.Run(*MakeCpuOps(numerics(), alone), 0, kRows),
                  "with one thread");
}

TEST_P(CpuOpsTest, ARowAloneHasTheBitsItHasAmongOthers) {
  OpWorld world = MakeWorld();
  const auto ops = MakeCpuOps(numerics(), pool_);
  const Outputs all = world.Run(*ops, 0, kRows);
  for (const auto& [first, count] :
       {std::pair<int64_t, int64_t>{0, 1}, {1, 1}, {27, 1}, {kRows - 1, 1}, {3, 2}, {5, 13}}) {
    for (const auto& [name, tensor] : world.Run(*ops, first, count)) {
      if (name == "sum_terms") continue;  // its terms are dealt by row number
      const Tensor rows = all.at(name).view().RowRange(first, count);
      EXPECT_EQ(std::memcmp(tensor.view().data, rows.data, rows.bytes()), 0)
          << name << " " << first << "+" << count;
    }
  }
}

TEST_P(CpuOpsTest, ASumOfExpertsHasTheSameBitsHoweverManyLanesMadeIt) {
  OpWorld world = MakeWorld();
  for (const auto& ops : {MakeCpuOps(numerics(), pool_), MakeReferenceOps(numerics())}) {
    const Outputs outputs = world.Run(*ops, 0, kRows);
    const Tensor& one = outputs.at("expert_sums");
    EXPECT_EQ(std::memcmp(one.data, outputs.at("expert_sums_of_two_lanes").view().data, one.bytes()), 0)
        << ops->name();
  }
}

// An op that makes several forms of its rows makes the bits of ops that make one each; and an FP8 linear
// quantises values to the bits that come quantised.
TEST(Activations, HaveEqualBitsInEveryFormAndInWhatFp8LinearsMakeOfThem) {
  ComputePool pool(1);
  for (const auto& ops : {MakeCpuOps(Numerics::kFp8, pool), MakeReferenceOps(Numerics::kFp8)}) {
    for (const uint64_t seed : {1, 2, 3}) {
      OpWorld world(Numerics::kFp8, kRows, seed);
      const auto outputs = world.Run(*ops, 0, kRows);
      const auto expect_equal = [&](const std::string& a, const std::string& b) {
        const Tensor& one = outputs.at(a);
        EXPECT_EQ(std::memcmp(one.data, outputs.at(b).view().data, one.bytes()), 0)
            << ops->name() << ": " << a << ", " << b;
      };
      for (const std::string name : {"rms_norm", "swiglu", "add_rms_norm"}) {
        expect_equal(name, name + "_values");
        expect_equal(name + "_quantized", name + "_quantized_alone");
        expect_equal("linear_of_" + name + "_values", "linear_of_" + name + "_both");
        expect_equal("linear_of_" + name + "_values", "linear_of_" + name + "_quantized");
      }
      expect_equal("add", "add_rms_norm_sum");
    }
  }
}

// Blocks whose largest magnitude rounds to the edge of a scale (224 of 448), or is tiny, or nothing: SwiGLU
// with a gate so large that its sigmoid is 1 makes them.
TEST(Activations, HaveTheScalesOfLinearsAtTheirEdges) {
  ComputePool pool(1);
  const auto ops = MakeCpuOps(Numerics::kFp8, pool);
  constexpr int64_t kWidth = 2 * kQuantBlock;
  for (const float largest : {224.0F, 224.5F, 225.0F, 448.0F, 1e-30F, 0.0F, 3e37F}) {
    OwnedTensor gate(DType::kBF16, 1, kWidth);
    OwnedTensor up(DType::kBF16, 1, kWidth);
    for (int64_t i = 0; i < kWidth; ++i) {
      StoreFloat(gate, 0, i, 128.0F);
      StoreFloat(up, 0, i, largest / 128.0F * (i % 7 == 0 ? 1.0F : 1.0F / static_cast<float>(3 + i)));
    }
    OwnedTensor weight(DType::kF8E4M3, 3, kWidth);
    for (int64_t i = 0; i < 3 * kWidth; ++i)
      weight.view().At<uint8_t>(0, i) = static_cast<uint8_t>(i * 37 % 0x7e);
    const float scales[] = {0.5F, 2.0F};
    const auto packed = ops->Pack({DType::kF8E4M3, 3, kWidth, weight.view().data, scales});
    const OwnedTensor values(DType::kBF16, 1, kWidth);
    const OwnedTensor quantized(DType::kU8, 1, QuantizedRowBytes(kWidth));
    ops->SwiGlu(gate, up, {values, quantized});
    EXPECT_EQ(LoadFloat(values, 0, 0), ToFloat(ToBF16(largest)));
    const OwnedTensor of_values(DType::kF32, 1, 3);
    const OwnedTensor of_codes(DType::kF32, 1, 3);
    ops->Linear(values, *packed, of_values);
    ops->Linear({{}, quantized}, *packed, of_codes);
    EXPECT_EQ(std::memcmp(of_values.view().data, of_codes.view().data, 12), 0) << largest;
  }
}

TEST_P(CpuOpsTest, NoRowsIsLegal) {
  OpWorld world = MakeWorld();
  EXPECT_NO_THROW(world.Run(*MakeCpuOps(numerics(), pool_), 4, 0));
}

double RelativeRms(const Tensor& a, const Tensor& b) {
  double error = 0.0;
  double norm = 0.0;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.cols; ++j) {
      const double x = static_cast<double>(LoadFloat(a, i, j));
      const double y = static_cast<double>(LoadFloat(b, i, j));
      error += (x - y) * (x - y);
      norm += y * y;
    }
  }
  return std::sqrt(error / norm);
}

TEST_P(CpuOpsTest, AgreesWithTheReference) {
  OpWorld world = MakeWorld();
  const Outputs cpu = world.Run(*MakeCpuOps(numerics(), pool_), 0, kRows);
  const Outputs reference = world.Run(*MakeReferenceOps(numerics()), 0, kRows);
  for (const auto& [name, tensor] : reference) {
    const Tensor& truth = tensor.view();
    const Tensor& mine = cpu.at(name).view();
    if (truth.dtype == DType::kI32 || truth.dtype == DType::kU8 || truth.dtype == DType::kF8E4M3) {
      int64_t different = 0;
      for (int64_t i = 0; i < truth.bytes(); ++i) {
        different +=
            static_cast<const std::byte*>(truth.data)[i] != static_cast<const std::byte*>(mine.data)[i];
      }
      // A value within fp32 noise of a rounding border may land on the other side; fp32 rows differ in last
      // bits.
      const bool fp32_bytes = truth.dtype == DType::kU8 && numerics() == Numerics::kExact;
      if (fp32_bytes) {
        const Tensor a{mine.data, DType::kF32, mine.rows, mine.cols / 4, mine.cols / 4};
        const Tensor b{truth.data, DType::kF32, truth.rows, truth.cols / 4, truth.cols / 4};
        EXPECT_LE(RelativeRms(a, b), 5e-7) << name;
      } else {
        EXPECT_LE(static_cast<double>(different),
                  truth.dtype == DType::kI32 ? 0.0 : 2e-3 * static_cast<double>(truth.bytes()))
            << name;
      }
    } else {
      const bool rounds = truth.dtype == DType::kBF16;
      EXPECT_LE(RelativeRms(mine, truth), rounds ? 3e-4 : 1e-6) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, CpuOpsTest,
                         testing::Values(Mode{Numerics::kExact}, Mode{Numerics::kFp8},
                                         Mode{Numerics::kFp8, true}),
                         [](const auto& mode) {
                           if (mode.param.bf16_cache) return "bf16_cache";
                           return mode.param.numerics == Numerics::kExact ? "exact" : "fp8";
                         });

}  // namespace
}  // namespace sluice::ops
