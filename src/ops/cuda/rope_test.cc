#include "ops/cuda/rope.h"

#include "ops/cuda/device_rows.h"
#include "ops/rope.h"

namespace sluice::ops::cuda {
namespace {

class Rope : public OnGpu {};

RopeScaling DeepSeek() {
  RopeScaling scaling;
  scaling.yarn = true;
  scaling.factor = 40.0;
  return scaling;
}
RopeScaling Glm(double theta) {
  RopeScaling scaling;
  scaling.theta = theta;
  return scaling;
}

TEST_F(Rope, AnglesHaveTheBitsOfTheHost) {
  for (const RopeScaling& scaling : {DeepSeek(), Glm(1e6), Glm(8e6)}) {
    const std::vector<float> inv_freq = InverseFrequencies(scaling);
    const int64_t pairs = std::ssize(inv_freq);
    std::mt19937_64 random(10);
    std::vector<int32_t> positions{0, 1, 2, 163839, 202751, 1048575};
    while (positions.size() < 20000) positions.push_back(static_cast<int32_t>(random() % 1048576));
    const OnDevice<int32_t> on_positions(positions);
    const OnDevice<float> on_inv_freq(inv_freq);
    const int64_t rows = std::ssize(positions);
    Outputs truth;
    truth["angles"] = OwnedTensor(DType::kF32, rows, 2 * pairs);
    for (int64_t t = 0; t < rows; ++t) RopeRow(positions[t], inv_freq, truth["angles"].view().Row<float>(t));
    const auto run = [&](int64_t first, int64_t count) {
      const Output angles(DType::kF32, count, 2 * pairs);
      Must(Enqueue(RopeAngles{count, on_positions.data() + first, on_inv_freq.data(),
                              static_cast<int32_t>(pairs), angles.data<float>()},
                   nullptr));
      Outputs out;
      out["angles"] = angles.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, rows, "rope");
    ExpectEqualBits(run(0, rows)["angles"], truth["angles"], "to the last bit");
  }
}

TEST_F(Rope, RotatesTheLastPartOfEachQuery) {
  struct Shape {
    int64_t heads, nope;
  };
  constexpr int64_t kRows = 130;
  constexpr int64_t kRope = 64;
  constexpr int64_t kLatent = 512;
  for (const Shape& shape : {Shape{128, 128}, Shape{64, 192}, Shape{3, 128}}) {
    const int64_t width = shape.heads * (shape.nope + kRope);
    const int64_t out_width = shape.heads * (kLatent + kRope);
    std::mt19937_64 random(11);
    const OwnedTensor q = Random(random, DType::kBF16, kRows, width, 1.0F);
    OwnedTensor angles(DType::kF32, kRows, kRope);
    for (int64_t t = 0; t < kRows; ++t) {
      RopeRow(t * 777, InverseFrequencies(DeepSeek()), angles.view().Row<float>(t));
    }
    const Input on_q(q, 16);
    const Input on_angles(angles);
    // The rotated columns of all heads side by side.
    Outputs truth;
    truth["rotated"] = OwnedTensor(DType::kBF16, kRows, shape.heads * kRope);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        for (int64_t i = 0; i < kRope / 2; ++i) {
          const int64_t from = h * (shape.nope + kRope) + shape.nope + 2 * i;
          const double a = LoadFloat(q, t, from);
          const double b = LoadFloat(q, t, from + 1);
          const double cosine = angles.view().At<float>(t, i);
          const double sine = angles.view().At<float>(t, kRope / 2 + i);
          StoreFloat(truth["rotated"], t, h * kRope + 2 * i, static_cast<float>(a * cosine - b * sine));
          StoreFloat(truth["rotated"], t, h * kRope + 2 * i + 1, static_cast<float>(a * sine + b * cosine));
        }
      }
    }
    const auto run = [&](int64_t first, int64_t count) {
      const Output q_latent(DType::kBF16, count, out_width, 32);
      RotateQueries work;
      work.rows = count;
      work.heads = static_cast<int32_t>(shape.heads);
      work.nope = static_cast<int32_t>(shape.nope);
      work.rope = kRope;
      work.latent = kLatent;
      work.q = on_q.Row(first);
      work.q_stride = on_q.stride();
      work.angles = on_angles.Row<float>(first);
      work.q_latent = q_latent.data();
      work.q_latent_stride = q_latent.stride();
      Must(Enqueue(work, nullptr));
      const OwnedTensor whole = q_latent.Get();
      Outputs out;
      out["rotated"] = OwnedTensor(DType::kBF16, count, shape.heads * kRope);
      for (int64_t t = 0; t < count; ++t) {
        for (int64_t h = 0; h < shape.heads; ++h) {
          const BF16* head = whole.view().Row<BF16>(t) + h * (kLatent + kRope);
          int64_t touched = 0;
          for (int64_t i = 0; i < kLatent; ++i) touched += head[i].bits != 0xffff ? 1 : 0;
          EXPECT_EQ(touched, 0) << "of the latent part of row " << t << ", head " << h;
          std::memcpy(out["rotated"].view().Row<BF16>(t) + h * kRope, head + kLatent, 2 * kRope);
        }
      }
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(shape.heads) + " heads");
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
