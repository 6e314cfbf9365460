#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/sm_budget.h"
#include "ops/activation.h"
#include "ops/cache_format.h"
#include "ops/expert_terms.h"
#include "tensor/random_matrix.h"
#include "tensor/tensor.h"

// The whole contract between the model and the hardware. A back end (ops/reference, ops/cpu, ops/cuda) is one
// object of this type per rank; the model calls nothing else.
//
// Numerics. `kExact`: activations, weights and caches are fp32 and nothing is rounded in between.
// `kFp8`: activations are bf16, linears of FP8 checkpoints multiply e4m3 by e4m3, caches hold e4m3; each
// rounding point is listed in docs/numerics.md and named at its op below as "-> bf16" or "-> e4m3".
// The activation dtype A is F32 or BF16 accordingly; every op accepts either and rounds only on its output.
//
// Row invariance. An output row depends on the inputs of that row alone: never on how many rows came with it,
// on their order, on the number of threads or on the vector width. A sum over k runs in ascending k with
// fused multiply-add unless the op says otherwise. ops/cpu/cpu_ops_test.cc holds every op to this.
//
// Shapes are [rows, cols]; T rows of this rank's share of a step; T = 0 is legal everywhere.
namespace sluice::ops {

enum class Numerics : uint8_t { kExact, kFp8 };

constexpr DType ActivationType(Numerics numerics) {
  return numerics == Numerics::kExact ? DType::kF32 : DType::kBF16;
}

// A weight as a checkpoint holds it: `data` is [rows = outputs, cols = inputs] row-major.
// F8_E4M3 comes with `scales` [ceil(rows/128), ceil(cols/128)] fp32 multipliers; other dtypes have none.
struct RawMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const void* data = nullptr;
  const float* scales = nullptr;
  // Instead of both: what they are made from, where the back end wants them (HostMatrix on the host).
  std::optional<RandomMatrix> random = std::nullopt;
};
inline RawMatrix RawOf(const RandomMatrix& random) {
  return {random.dtype, random.rows, random.cols, nullptr, nullptr, random};
}

// A weight in the back end's own layout; lives until the back end that packed it is gone.
class Weight {
 public:
  Weight(int64_t rows, int64_t cols, bool is_fp8) : rows_(rows), cols_(cols), is_fp8_(is_fp8) {}
  virtual ~Weight() = default;
  int64_t rows() const { return rows_; }  // outputs
  int64_t cols() const { return cols_; }  // inputs
  bool is_fp8() const { return is_fp8_; }
  Forms reads() const { return {!is_fp8_, is_fp8_}; }

 private:
  int64_t rows_, cols_;
  bool is_fp8_;
};

// Weights of one shape, one after the other: the heads' absorbed projections, the experts' gates.
class WeightGroup {
 public:
  WeightGroup(int64_t count, int64_t rows, int64_t cols, Forms reads)
      : count_(count), rows_(rows), cols_(cols), reads_(reads) {}
  virtual ~WeightGroup() = default;
  int64_t count() const { return count_; }
  int64_t rows() const { return rows_; }  // outputs of each
  int64_t cols() const { return cols_; }  // inputs
  Forms reads() const { return reads_; }  // of any of them

 private:
  int64_t count_, rows_, cols_;
  Forms reads_;
};

// Sizes of multi-head latent attention. latent = kv_lora_rank, rope = qk_rope_head_dim (64).
struct AttentionShape {
  int64_t heads = 0;
  int64_t nope = 0;
  int64_t rope = 0;
  int64_t latent = 0;
  int64_t value = 0;
  int64_t query_width() const { return nope + rope; }     // per head, as q_b_proj writes it
  int64_t latent_width() const { return latent + rope; }  // per head after absorption; one cached key
};

// Sizes of the lightning indexer and the order of its rotary pairs.
struct IndexerShape {
  int64_t heads = 0;
  int64_t dim = 0;                // index_head_dim, 128
  int64_t rope = 0;               // the FIRST rope dims are rotated
  int64_t top_k = 0;              // index_topk
  bool rope_interleaved = false;  // false: pairs (i, i + rope/2); true: pairs (2i, 2i + 1)
};

// Which sequence of the step a row belongs to and its position there; it sees keys 0..position.
struct RowPlace {
  int32_t sequence = 0;
  int32_t position = 0;
};

// The pages of one sequence: tokens [64 p, 64 p + 64) lie in page pages[p] of every layer's cache.
using PageTable = std::span<const int32_t>;

// One layer's cache of one kind: page p begins at base + p * PageBytes(format).
struct PagedCache {
  std::byte* base = nullptr;
  CacheFormat format = CacheFormat::kF32;
};

struct RouterShape {
  int64_t experts = 0;
  int64_t groups = 1;      // n_group
  int64_t top_groups = 1;  // topk_group
  int64_t top_k = 0;       // num_experts_per_tok
  bool normalize = true;   // norm_topk_prob
  float scale = 1.0F;      // routed_scaling_factor
};

// What Route chose for T rows.
struct ExpertChoices {
  Tensor ids;      // [T, top_k] I32, ascending in a row
  Tensor weights;  // [T, top_k] F32
};

// Rows grouped by the experts they go to. A pair is a row and one of its experts; an expert's pairs are
// neighbours, in the order of the rows.
struct ExpertPlan {
  Tensor rows;    // [1, P] I32: the row of each pair, -1 behind the last; P is at least the number of pairs
  Tensor groups;  // [experts, 3] I32: of expert e the pairs [begin, end), then e
  Tensor pairs;   // [T, top_k] I32: the pair of a row and its choice; -1: an expert of somebody else
};

struct SamplingParams {
  float temperature = 0.0F;  // 0: greedy, the lowest id among the largest logits
  float top_p = 1.0F;        // in (0, 1]
  int32_t top_k = 0;         // 0: all
  uint64_t seed = 0;
  int32_t top_logprobs = 0;  // how many of the most likely tokens to report
  float min_p = 0.0F;        // in [0, 1]: leaves out what is less likely than this share of the likeliest
  bool operator==(const SamplingParams&) const = default;
};

struct TokenBias {
  int32_t token = 0;
  float bias = 0.0F;  // -infinity: cannot be chosen
  bool operator==(const TokenBias&) const = default;
};

// What one request does to a row of logits before a token is drawn from it. In this order: every token of
// `repeated` has its logit divided by the penalty if it is above 0 and multiplied by it if not; biases are
// added; what is not allowed cannot be chosen. Log-probabilities are reported from the row as it was.
struct LogitAdjust {
  float repetition_penalty = 1.0F;  // finite and above 0
  std::vector<int32_t> repeated;    // ascending, each token once
  std::vector<TokenBias> biases;    // ascending by token, each once
  std::vector<uint32_t> allowed;    // bit t % 32 of word t / 32: token t may be chosen; no words: all may
  bool empty() const { return repeated.empty() && biases.empty() && allowed.empty(); }
  bool operator==(const LogitAdjust&) const = default;
};
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0F;  // of the untempered distribution
  bool operator==(const TokenLogprob&) const = default;
};
struct Sampled {
  int32_t token = 0;
  float logprob = 0.0F;
  std::vector<TokenLogprob> top;  // by logprob descending, then id ascending
  bool operator==(const Sampled&) const = default;
};

// The most that ops are asked for between start and end; what a back end keeps for the inside of its ops
// follows from it (Ops::Reserve).
struct OpLimits {
  int64_t places = 0;         // rows of a step
  int64_t sequences = 0;      // of a step
  int64_t positions = 0;      // of a sequence
  int64_t list = 0;           // entries of a list of rows, terms or joins
  int64_t linear_inputs = 0;  // rows x inputs of a linear, inputs in whole blocks of 128
  int64_t top_k = 0;          // keys of a row's selection
  int64_t experts = 0;        // of a layer on this rank
  int64_t vocabulary = 0;
  int64_t logits_rows = 0;      // that are sampled, or looked at for log-probabilities, by one call
  int64_t graph_rows = 0;       // of the largest step that is recorded; 0: none is
  int64_t recorded_layers = 0;  // of the model, in all recordings together
};

class Ops {
 public:
  virtual ~Ops() = default;
  virtual const char* name() const = 0;
  virtual Numerics numerics() const = 0;
  // Where every tensor, table and cache that an op is given lies; spans are the host's.
  virtual Memory& memory() { return HostMemory(); }
  // An op may only be enqueued when its call returns. Waits until all of them are complete, and throws what
  // went wrong in one of them.
  virtual void Finish() {}
  // A point behind the ops called so far; null where the host can only wait for all of them.
  virtual std::unique_ptr<StreamMark> Mark() { return nullptr; }
  // Finish of the ops before the mark; those called since go on meanwhile. All of them for null.
  virtual void FinishUpTo(const StreamMark*) { Finish(); }
  // Where ops are enqueued; null where they are complete when their call returns.
  virtual WorkStream* stream() { return nullptr; }
  // What the kernels of the ops called from now on leave to others. Changes no bit of any result; ignored
  // where there are no SMs.
  virtual void SetSmBudget(SmBudget) {}
  // Before the first op: takes the memory that ops within `limits` need inside, and from then on no more; an
  // op that would is an Error(kInternal). Without this call a back end takes memory as ops need it, as those
  // of the host always do. Throws Error(kMemory).
  virtual void Reserve(const OpLimits&) {}

  // ---- graphs ----

  // A pass that is the same every time but for what its tensors and spans hold can be recorded once and
  // launched as a whole from then on, where a back end can. From RecordGraph(key) to EndGraph ops are
  // recorded and not computed. From LaunchGraph(key) to EndGraph they must be those recorded, with the same
  // shapes, tensors and weights, and are computed: an op that is another is an Error(kInternal). Between them
  // Finish is as ever, and cuts the graph.
  //
  // Only after Reserve, whose limits the launched passes keep to: up to graph_rows rows in all, each of a
  // sequence of its own, up to `positions` long. A span of places or page tables does not change before
  // EndGraph.
  virtual bool HasGraphs() const { return false; }
  virtual void RecordGraph(int64_t) {}
  virtual void LaunchGraph(int64_t) {}
  virtual void EndGraph() {}

  // ---- weights ----

  // Copies `raw` into the back end's layout. In kExact every dtype becomes its exact fp32 value (FP8: value
  // times block scale, in fp32). In kFp8, F8_E4M3 keeps its bytes and scales; other dtypes become bf16
  // (round to nearest even).
  virtual std::unique_ptr<Weight> Pack(const RawMatrix& raw) = 0;
  // The same for weights that are used together; all have the shape of the first.
  virtual std::unique_ptr<WeightGroup> PackGroup(std::span<const RawMatrix> raws) = 0;

  // ---- projections, norms, elementwise ----

  // y[t] = table[ids[t] - first_id]; table is [n, d] of a packed-free tensor (F32 or BF16), y [T, d] of type
  // A.
  virtual void Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids,
                     const Tensor& y) = 0;

  // y[T, N] = x[T, K] W[N, K]^T.
  // W unquantised: one ascending fp32 FMA chain over k, then rounded to y's dtype (F32 or BF16).
  // W FP8: x -> e4m3 per row and 128 inputs with a power-of-two scale, if it does not come so; inside a block
  // of 128 k an ascending fp32 FMA chain p; acc = fma(p, scale_x * scale_w, acc) block by block; then -> y's
  // dtype.
  virtual void Linear(const Activation& x, const Weight& w, const Tensor& y) = 0;

  // Linear with a weight per contiguous range of rows: rows [begin, end) of x use weight w, for each row
  // (begin, end, w) of groups [*, 3] I32. Empty ranges are common; rows of y in none are left as they are.
  virtual void GroupedLinear(const Activation& x, const Tensor& groups, const WeightGroup& weights,
                             const Tensor& y) = 0;

  // y = w * (x * rsqrt(mean(x^2) + eps)), fp32 inside, -> A, then -> e4m3 where y has that form. x, y [T, d];
  // w [1, d] F32. y's values may be x.
  virtual void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Activation& y) = 0;
  // x += delta as Add has it, then y = RmsNorm(x): what stands between two blocks of a layer. y's values may
  // not be x.
  virtual void AddRmsNorm(const Tensor& delta, const Tensor& x, const Tensor& w, float eps,
                          const Activation& y) = 0;

  // y = silu(gate) * up, fp32 inside, -> A, then -> e4m3 where y has that form. All [T, n]. y's values may be
  // gate.
  virtual void SwiGlu(const Tensor& gate, const Tensor& up, const Activation& y) = 0;

  // y += x, fp32 inside, rounded once to y's dtype. The residual stream and the joins of its parts.
  virtual void Add(const Tensor& x, const Tensor& y) = 0;

  // y[i] = x[source[i]], bytes as they are; any dtype, the same in x and y. Dispatch, return and re-ordering.
  virtual void CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) = 0;

  // The same where rows [1, y.rows] I32 lists the sources; below 0: the row of y is left as it is.
  virtual void TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) = 0;

  // ---- rotary positions ----

  // out[t] = cos(angle_i) for i < n | sin(angle_i) for i < n, with n = inv_freq.size() and
  // angle_i = float(position) * inv_freq[i] rounded to fp32; sin and cos of that angle correctly rounded to
  // fp32 but for the last bit, by our own code (ops/rope.h), the same on every host. out [T, 2 n] F32.
  virtual void RopeAngles(std::span<const RowPlace> places, std::span<const float> inv_freq,
                          const Tensor& out) = 0;

  // ---- multi-head latent attention, absorbed ----

  // q [T, heads * (nope + rope)] -> q_latent [T, heads * (latent + rope)]: per head
  //   q_latent[0:latent] = W_uk,h^T q[0:nope]                  -> A
  //   q_latent[latent:]  = RoPE_interleaved(q[nope:], angles)  -> A
  // (weight h of up_keys is W_uk,h^T [latent, nope]).
  virtual void AbsorbQuery(const AttentionShape& shape, const Tensor& q, const WeightGroup& up_keys,
                           const Tensor& angles, const Tensor& q_latent) = 0;

  // kv [T, latent + rope] -> rows [T, LatentRowBytes(format)] U8, ready for the cache:
  //   c = RmsNorm(kv[0:latent], norm, eps); k_pe = RoPE_interleaved(kv[latent:], angles).
  // kExact: both fp32. kFp8: c -> bf16 -> e4m3 per 128 with power-of-two scales; k_pe -> bf16. Rows of kFp8
  // may also be as long as those of kBf16, and then are: c -> bf16; k_pe -> bf16.
  virtual void LatentRows(const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                          const Tensor& angles, const Tensor& rows) = 0;

  // o_latent [T, heads * latent] -> o [T, heads * value]: per head W_uv,h o_latent -> A
  // (weight h of up_values is W_uv,h [value, latent]).
  virtual void ValueUp(const AttentionShape& shape, const Tensor& o_latent, const WeightGroup& up_values,
                       const Tensor& o) = 0;

  // Softmax attention of each row over its selected keys only, all heads sharing the keys:
  //   s_j = scale * q_latent . [c_j ; k_pe,j];  o_latent = sum_j softmax(s)_j c_j  -> A.
  // Keys are taken by ordinal in the ascending selection: partial maxima and sums over fixed partitions of
  // 512 ordinals (in blocks of 64), merged in order; on a GPU block after block, without partitions. Either
  // way a row's bits depend on the row alone. A row whose selection is empty gives 0.
  // selection [T, k] I32: positions ascending, then -1.
  virtual void SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                               std::span<const RowPlace> places, std::span<const PageTable> pages,
                               const Tensor& selection, float scale, const Tensor& o_latent) = 0;

  // ---- lightning indexer ----

  // q [T, heads * dim] (wq_b's output), gate_logits [T, heads] F32 (weights_proj's output) ->
  // queries [T, heads * dim] (F32 in kExact, F8_E4M3 in kFp8) and gates [T, heads] F32:
  //   kExact: queries = RoPE(q);                       gates = logits * heads^-1/2 * dim^-1/2
  //   kFp8: RoPE -> bf16, Hadamard * dim^-1/2 -> bf16, -> e4m3 per head with a power-of-two scale s;
  //         gates = logits * heads^-1/2 * dim^-1/2 * s
  virtual void IndexQueries(const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                            const Tensor& angles, const Tensor& queries, const Tensor& gates) = 0;

  // k [T, dim] (wk's output) -> rows [T, IndexRowBytes(format)] U8:
  //   LayerNorm(k; weight, bias, eps 1e-6, fp32), RoPE on the first rope dims;
  //   kFp8: norm -> bf16, RoPE -> bf16, Hadamard * dim^-1/2 -> bf16, -> e4m3 with one power-of-two scale.
  virtual void IndexKeyRows(const IndexerShape& shape, const Tensor& k, const Tensor& weight,
                            const Tensor& bias, const Tensor& angles, const Tensor& rows) = 0;

  // selection [T, top_k] I32 of each row t: the positions of the min(top_k, position + 1) visible keys with
  // the largest score(s) = scale_s * sum_h gates[t, h] * max(0, queries[t, h] . key_s), where key_s is the
  // cached value (kFp8: unscaled e4m3, with scale_s its scale; kExact: scale_s = 1), the dot an ascending
  // fp32 FMA chain, the sum over heads an ascending fp32 FMA chain from 0. -0 counts as +0, ties go to the
  // lowest position, positions come out ascending and -1 fills the rest. With position + 1 <= top_k every
  // visible key is taken without scoring. A NaN score throws Error(kInternal) naming row and position.
  // Memory does not grow with the context: keys stream in blocks through a running top-k.
  virtual void SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                          const PagedCache& index_keys, std::span<const RowPlace> places,
                          std::span<const PageTable> pages, const Tensor& selection) = 0;

  // ---- caches ----

  // Puts row t (as LatentRows or IndexKeyRows made it, possibly on another rank) at places[t]. `rows` may be
  // a column range of a wider tensor.
  virtual void WriteLatents(const Tensor& rows, std::span<const RowPlace> places,
                            std::span<const PageTable> pages, const PagedCache& latents) = 0;
  virtual void WriteIndexKeys(const Tensor& rows, std::span<const RowPlace> places,
                              std::span<const PageTable> pages, const PagedCache& index_keys) = 0;

  // ---- mixture of experts ----

  // logits [T, experts] F32, bias [1, experts] F32 -> ids [T, top_k] I32 ascending, weights [T, top_k] F32:
  //   p = sigmoid(logits); c = p + bias; groups ranked by the sum of their two largest c (groups > 1), the
  //   best top_groups kept; the top_k largest c among them, ties to the lowest id;
  //   weights = scale * p / (sum of the chosen p in ascending id + 1e-20)   (no division if !normalize).
  virtual void Route(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
                     const Tensor& weights) = 0;

  // The plan for those of the chosen experts that are [first_expert, first_expert + plan.groups.rows). The
  // tensors of the plan are there and are filled in.
  virtual void PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) = 0;

  // The sums of a row's experts, in the order of the canonical tree (model/expert_tree.h), as far as they are
  // in `pairs` (ExpertPlan): nodes[t * S + s] is subtrees[s] of row t, S = subtrees.size().
  //   leaf = sum over its experts in ascending id of weights[t, k] * y[pairs[t, k]]: fp32, first product
  //          plain, then FMA -> dtype of nodes;
  //   node = left + right -> dtype of nodes. What none of a row's pairs lies below is absent: a node with an
  //          absent side is the other side, an absent subtree leaves its row of `nodes` as it is.
  virtual void SumExperts(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                          const ExpertLeaves& leaves, std::span<const Subtree> subtrees,
                          const Tensor& nodes) = 0;
  // out[t] = the root of row t's tree from subtrees that cover its leaves once, ascending. Which of them are
  // absent follows from ids [T, top_k]; the rows of those are not read.
  virtual void JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                            std::span<const SubtreeRows> subtrees, const Tensor& out) = 0;

  // out[i] = sum of terms [offsets[i], offsets[i+1]) in order: fp32, first product plain, then FMA; rounded
  // once to out's dtype. Sums over ranks. y, out [*, d].
  virtual void SumTerms(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                        const Tensor& out) = 0;
  // Inner nodes of the canonical tree, in the order given.
  virtual void JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes) = 0;

  // ---- sampling ----

  // One token per row of logits [T, vocab] F32. Candidates in order of value descending, then id ascending;
  // top_k, then top_p over the tempered distribution, then min_p; the uniform number is a pure function of
  // (seed, position). Log-probabilities: log-sum-exp over fixed blocks of 1,024 tokens merged in order.
  // params, adjusts, positions: one per row; position is that of the sampled token in its sequence.
  // Error(kInternal) for an adjust that does not fit the vocabulary or leaves no token.
  virtual std::vector<Sampled> Sample(const Tensor& logits, std::span<const SamplingParams> params,
                                      std::span<const LogitAdjust> adjusts,
                                      std::span<const int64_t> positions) = 0;

  // The log-probability of targets[t] under logits row t, and the `top` most likely tokens beside it.
  // targets[t] = -1 gives {-1, 0, {}}.
  virtual std::vector<Sampled> Logprobs(const Tensor& logits, std::span<const int32_t> targets,
                                        int32_t top) = 0;
};

}  // namespace sluice::ops
