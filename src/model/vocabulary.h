#pragma once

#include <functional>

#include "model/pass.h"
#include "model/weights.h"

// Embedding and head, cut by vocabulary over the lanes of the stage that has them.
namespace sluice::model {

inline constexpr int64_t kSlabRows = 256;  // rows x vocabulary is never held for more rows than this

// x [T, hidden] = embeddings of this lane's rows. Each lane looks up the rows whose token lies in its part of
// the vocabulary, for every lane, and sends them there.
void Embed(const Pass& pass, const Tensor& embed_tokens, int64_t vocab_size, const Tensor& x);

// Rows of the step whose logits are wanted, ascending; known to every lane from the step alone.
std::vector<int64_t> WantedRows(const step::Step& step);

// Receives logits [count, vocab] F32 of wanted rows [first, first + count), in order. Called on lane 0 only.
using LogitsSink = std::function<void(int64_t first, const Tensor& logits)>;

// logits = lm_head RMSNorm(x), for the wanted rows only: their normed hidden states are brought together,
// each lane multiplies its part of the vocabulary, lane 0 puts the parts side by side. In slabs of at most
// kSlabRows.
void Head(const Pass& pass, const Tensor& norm, float eps, const ops::Weight& lm_head, int64_t vocab_size,
          const std::vector<int64_t>& wanted, const Tensor& x, const LogitsSink& sink);

}  // namespace sluice::model
