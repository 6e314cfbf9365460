#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "ops/cuda/attention_world.h"
#include "ops/cuda/on_device.h"

namespace sluice::ops::cuda {

// For tests: a world on the device, and calls on parts of it.
class Attention {
 public:
  // No call is on more SMs.
  explicit Attention(const AttentionWorld& world, int most_sms = Sms())
      : world_(world),
        cache_(world.cache),
        table_(world.table),
        q_(world.q),
        workspace_(std::vector<uint8_t>(WorkspaceBytes(most_sms) + kGuard)),
        published_(std::vector<uint32_t>(PublishedBytes(most_sms) / sizeof(uint32_t) + kGuard)),
        counter_({0}) {}

  struct Part {
    int64_t first_row = 0;
    int64_t rows = AttentionWorld::kRows;
    int64_t first_head = 0;
    int64_t heads = 0;  // 0: all
    int sms = 0;        // 0: all
    int64_t top_k = AttentionWorld::kTopK;
  };

  // A part's operands. Calls on the same stream may follow one another.
  class Call {
   public:
    Call(const Attention& attention, Part part)
        : attention_(attention),
          part_(part),
          sequences_(Rows(attention.world_.sequences, 1)),
          selection_(Rows(attention.world_.selection, AttentionWorld::kSelectionStride)),
          o_(Poison()) {}
    const Part& part() const { return part_; }

    void Enqueue(cudaStream_t stream) const {
      const AttentionWorld& world = attention_.world_;
      SparseAttention work;
      work.rows = part_.rows;
      work.heads = heads();
      work.scale = AttentionWorld::kScale;
      work.q_stride = world.heads * kLatentWidth;
      work.q_latent =
          attention_.q_.data() + part_.first_row * work.q_stride + part_.first_head * kLatentWidth;
      work.format = world.format;
      work.latents = attention_.cache_.data();
      work.page_tables = attention_.table_.data();
      work.table_stride = AttentionWorld::kPages;
      work.sequences = sequences_.data();
      work.selection = selection_.data();
      work.top_k = part_.top_k;
      work.selection_stride = AttentionWorld::kSelectionStride;
      work.o_latent = o_.data() + kGuard;
      work.o_stride = o_stride();
      work.workspace = attention_.workspace_.data();
      work.workspace_bytes = WorkspaceBytes(sms());
      work.published = attention_.published_.data();
      Must(cuda::Enqueue(work, attention_.counter_.data(), sms(), stream));
    }
    // [rows, heads * kLatent], what lies around it having been left alone; poisoned again.
    std::vector<BF16> Take() {
      const std::vector<BF16> all = o_.Get();
      std::vector<BF16> out;
      out.reserve(part_.rows * heads() * kLatent);
      const auto is_poison = [](BF16 value) { return value.bits == kPoison; };
      bool touched = false;
      auto around = all.begin();  // the begin of what lies in front of the next row
      for (int64_t t = 0; t < part_.rows; ++t) {
        const auto row = all.begin() + kGuard + t * o_stride();
        touched = touched || !std::all_of(around, row, is_poison);
        around = row + heads() * kLatent;
        out.insert(out.end(), row, around);
      }
      EXPECT_TRUE(!touched && std::all_of(around, all.end(), is_poison)) << "values around the output";
      o_.Put(Poison());
      return out;
    }

   private:
    int64_t heads() const { return part_.heads == 0 ? attention_.world_.heads : part_.heads; }
    int sms() const { return part_.sms == 0 ? Sms() : part_.sms; }
    int64_t o_stride() const { return heads() * kLatent + kPad; }
    std::vector<int32_t> Rows(const std::vector<int32_t>& of_world, int64_t each) const {
      const auto first = of_world.begin() + part_.first_row * each;
      return {first, first + part_.rows * each};
    }
    std::vector<BF16> Poison() const {
      return std::vector<BF16>(2 * kGuard + part_.rows * o_stride(), BF16{kPoison});
    }

    const Attention& attention_;
    const Part part_;
    const OnDevice<int32_t> sequences_, selection_;
    OnDevice<BF16> o_;
  };

  // A call's output.
  std::vector<BF16> Attend(Part part) const {
    Call call(*this, part);
    const int64_t bytes = WorkspaceBytes(part.sms == 0 ? Sms() : part.sms);
    Must(cudaMemset(workspace_.data(), 0x7f, bytes + kGuard));
    call.Enqueue(nullptr);
    Must(cudaDeviceSynchronize());
    std::vector<uint8_t> behind(kGuard);
    Must(cudaMemcpy(behind.data(), workspace_.data() + bytes, kGuard, cudaMemcpyDeviceToHost));
    EXPECT_EQ(std::count(behind.begin(), behind.end(), 0x7f), kGuard) << "bytes behind the workspace";
    ExpectNothingPublished();
    return call.Take();
  }
  // As it is between launches.
  void ExpectNothingPublished() const {
    const std::vector<uint32_t> published = published_.Get();
    EXPECT_EQ(std::count(published.begin(), published.end(), 0U), std::ssize(published)) << "published";
  }

  // `some`, of a part, are those of `all` rows and heads, bit for bit.
  void ExpectSame(const std::vector<BF16>& all, const Part& part, const std::vector<BF16>& some,
                  const char* what) const {
    const int64_t heads = part.heads == 0 ? world_.heads : part.heads;
    for (int64_t t = 0; t < part.rows; ++t) {
      const BF16* right = all.data() + ((part.first_row + t) * world_.heads + part.first_head) * kLatent;
      ASSERT_EQ(std::memcmp(some.data() + t * heads * kLatent, right, heads * kLatent * sizeof(BF16)), 0)
          << "row " << part.first_row + t << " " << what;
    }
  }

 private:
  static constexpr int64_t kGuard = 1024;      // values or bytes around what a kernel writes
  static constexpr int64_t kPad = 16;          // behind a row of the output
  static constexpr uint16_t kPoison = 0x7fd5;  // a NaN that no arithmetic makes

  const AttentionWorld& world_;
  OnDevice<uint8_t> cache_;
  OnDevice<int32_t> table_;
  OnDevice<BF16> q_;
  OnDevice<uint8_t> workspace_;
  OnDevice<uint32_t> published_;
  OnDevice<int32_t> counter_;
};

}  // namespace sluice::ops::cuda
