#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "checkpoint/random_model.h"
#include "checkpoint/tensor_map.h"
#include "checkpoint/weight_entries.h"

// A model that knows one thing: what stood after a token earlier in the context. Every tensor of
// DeepSeek-V3.2 is there; the weights below are set by formula, so it answers ".. k17=v42 .. k17=" with
// "v42", whatever lies between. What it needs of the engine: the lightning indexer, the selection, sparse
// attention with and without positions, the residual stream through every stage, routed experts, the head.
//
// Tokens. Token t has a code of 64 signs, two Walsh functions of 32 signs each:
//   code(t) = [coarse(t / 32) | fine(t mod 32)]
// coarse tells the token's class, fine its member of the class; a class of 32 and more is the negative of the
// one 32 below. Codes of two tokens agree (inner product) to 64 if they are equal, to 32 at most if they are
// not. fine begins with +1 whatever the token, which serves as the constant 1.
//
// The residual stream has four fields of 64 channels: E the token, P the token before it, R what was
// recalled, O what is to be said. E is the embedding; the rest begins as 0. One layer of attention cannot do
// it, since a key's place knows its own token and not the next one. So two attend, and the last one's experts
// speak:
//   layer 0      P = E of the position before. Query and key are constants that only RoPE turns: a key d
//                places back has the score sum_i cos(theta_i (d - 1)), in the indexer and in attention alike.
//   layer L / 2  R = E of the position whose P is this position's E: the one after an earlier occurrence. The
//                indexer compares coarse alone, so that all keys of a class tie at its top and compete for
//                index_topk; attention compares both halves.
//   layer L - 1  O = R, written by the routed experts (or by the dense MLP where the model has no experts):
//                silu of a constant times R.
//   head         O against the code of each token. The row of the end-of-sequence token also looks at E: a
//                value ("v42") ends the answer.
// All other tensors are random as PlanCheckpoint has them, but for zero output projections: the other layers
// compute everything and add nothing.
//
// The first position has nothing before it and takes itself for P. So attention in layer L / 2 compares with
// P - E / 8: a key that is itself the token asked for stands behind the one after it.
//
// Margins. Signs are exact in every format, and where a field is rounded all its channels are rounded alike.
//   layer 0      40 nats. The nearest rivals are d = 0 and d = 2, behind by sum_i (1 - cos theta_i): 1.08 of
//                32 with DeepSeek's frequencies, 0.82 with GLM-5's. e4m3 turns the constant query by up to
//                3.5 degrees per pair, which takes 3 % of that lead; bf16 k_pe moves a score by 0.3 nats.
//                Keys more than 20 places back, to 160,000, are behind by 6.8 or more, in the indexer too.
//   layer L / 2  2.5 nats for a sign. The right key agrees in 60 at least (56 where it repeats the key), any
//                other in 40 at most, the first position in 56: 40 nats ahead of others, 10 of the first.
//   head         32 times what O is after the last norm, about 1, in nats; at a value 128 for the end.
namespace sluice::checkpoint {

inline constexpr int64_t kRecallClass = 32;    // tokens of a class
inline constexpr int64_t kRecallKeys = 256;    // "k0=" .. "k255=", the ids before the values
inline constexpr int64_t kRecallValues = 256;  // "v0" .. "v255", the last ids of the vocabulary

// The words of the tokenizer, in the order of their ids: the keys, then the values.
std::vector<std::string> RecallWords();

// A plan for MakeCheckpoint: `model`'s config, with recall set. Throws Error(kUsage) as PlanCheckpoint does,
// and for sizes that cannot hold the fields: it names the key, the value and the limit.
CheckpointPlan PlanRecall(const RandomModel& model);

// The entries of a tensor that the formula sets; nullopt for one that stays random. `config` is of
// PlanRecall.
std::optional<std::vector<WeightEntry>> RecallEntries(const ModelConfig& config, const TensorSpec& spec);

}  // namespace sluice::checkpoint
