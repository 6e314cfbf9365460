#include "model/attention.h"

#include "model/partial_sum.h"
#include "model/shapes.h"

namespace sluice::model {

Attention::Attention(const checkpoint::ModelConfig& config, int attn_tp)
    : shape_(AttentionShapeOf(config)),
      indexer_shape_(IndexerShapeOf(config)),
      rms_norm_eps_(static_cast<float>(config.rms_norm_eps)),
      softmax_scale_(static_cast<float>(ops::SoftmaxScale(shape_.query_width(), RopeScalingOf(config)))),
      inverse_frequencies_(ops::InverseFrequencies(RopeScalingOf(config))) {
  shape_.heads /= attn_tp;
}

Attention::Rotations Attention::Angles(const Pass& pass) const {
  const auto of = [&](std::span<const ops::RowPlace> places) {
    const Tensor angles = pass.New(DType::kF32, static_cast<int64_t>(places.size()), shape_.rope);
    pass.ops().RopeAngles(places, inverse_frequencies_, angles);
    return angles;
  };
  const Tensor mine = of(pass.mine());
  return {mine, pass.heads() == nullptr ? mine : of(pass.of_heads())};
}

Selection Attention::NewSelection(const Pass& pass, const Tensor* mine) const {
  const auto room = [&](int64_t rows) { return pass.New(DType::kI32, rows, indexer_shape_.top_k); };
  Selection selection;
  selection.mine = mine != nullptr ? *mine : room(pass.rows());
  selection.of_heads = pass.heads() == nullptr ? selection.mine : room(std::ssize(pass.of_heads()));
  return selection;
}

void Attention::GatherSelection(const Pass& pass, const Selection& selection) {
  if (pass.heads() != nullptr) pass.GatherHeads("gather selections", selection.mine, selection.of_heads);
}

Tensor Attention::Forward(const Pass& pass, const AttentionWeights& attention,
                          const std::optional<IndexerWeights>& indexer, const Caches& caches,
                          const Rotations& angles, const ops::Activation& h, const Selection& selection,
                          const SelectionSteering& steering) const {
  ops::Ops& ops = pass.ops();
  const int64_t rows = pass.rows();
  const auto format = caches.latents.format;
  const int64_t latent_bytes = ops::LatentRowBytes(format, shape_.latent, shape_.rope);
  const int64_t index_bytes =
      indexer.has_value() ? ops::IndexRowBytes(format, indexer_shape_.dim) : int64_t{0};

  // c_q = RMSNorm(W_qa h)
  const Tensor low = pass.NewActivation(rows, attention.q_a_proj->rows());
  ops.Linear(h, *attention.q_a_proj, low);
  ops::Forms read_by = attention.q_b_proj->reads();
  if (indexer.has_value()) read_by = read_by | indexer->wq_b->reads();
  const ops::Activation query_low = pass.NewForms(read_by, low);
  ops.RmsNorm(low, attention.q_a_layernorm, rms_norm_eps_, query_low);

  // The cache rows of this lane, [latent | index key], and then of all lanes.
  const Tensor kv = pass.NewActivation(rows, shape_.latent_width());
  ops.Linear(h, *attention.kv_a_proj_with_mqa, kv);
  const Tensor my_rows = pass.NewBytes(rows, latent_bytes + index_bytes);
  ops.LatentRows(shape_, kv, attention.kv_a_layernorm, rms_norm_eps_, angles.mine,
                 my_rows.ColRange(0, latent_bytes));
  if (indexer.has_value()) {
    const Tensor index_key = pass.NewActivation(rows, indexer_shape_.dim);
    ops.Linear(h, *indexer->wk, index_key);
    ops.IndexKeyRows(indexer_shape_, index_key, indexer->k_norm_weight, indexer->k_norm_bias, angles.mine,
                     my_rows.ColRange(latent_bytes, index_bytes));
  }
  // What needs no other lane's rows is computed while they come.
  const Pass::Gathering rows_of_lanes = pass.BeginGather("all-gather latents and index keys", my_rows);
  std::optional<IndexQueries> index;
  if (indexer.has_value()) index = QueriesOfIndexer(pass, *indexer, angles.mine, h, query_low);
  std::optional<Tensor> query_latent;
  if (pass.heads() == nullptr) query_latent = LatentQueries(pass, attention, angles.mine, query_low);
  const Tensor all_rows = rows_of_lanes.End();
  ops.WriteLatents(all_rows.ColRange(0, latent_bytes), pass.gathered(), pass.pages(), caches.latents);
  if (indexer.has_value()) {
    ops.WriteIndexKeys(all_rows.ColRange(latent_bytes, index_bytes), pass.gathered(), pass.pages(),
                       caches.index_keys.value());
    ops.SelectKeys(indexer_shape_, index->queries, index->gates, *caches.index_keys, pass.mine(),
                   pass.pages(), selection.mine);
    if (steering) steering(selection.mine);
    GatherSelection(pass, selection);
  }

  if (query_latent.has_value()) {
    return Attend(pass, attention, caches.latents, *query_latent, selection.mine,
                  ops::ActivationType(ops.numerics()));
  }
  const ops::Activation low_of_heads =
      pass.GatherHeads("gather queries", query_low.Only(attention.q_b_proj->reads()));
  const Tensor partial =
      Attend(pass, attention, caches.latents, LatentQueries(pass, attention, angles.of_heads, low_of_heads),
             selection.of_heads, DType::kF32);
  return SumOverRanks(pass, *pass.heads(), "sum attention over heads", partial, pass.RowsOfHeads());
}

Attention::IndexQueries Attention::QueriesOfIndexer(const Pass& pass, const IndexerWeights& indexer,
                                                    const Tensor& angles, const ops::Activation& h,
                                                    const ops::Activation& query_low) const {
  ops::Ops& ops = pass.ops();
  const int64_t rows = pass.rows();
  const DType query_type = ops.numerics() == ops::Numerics::kExact ? DType::kF32 : DType::kF8E4M3;
  const IndexQueries made{pass.New(query_type, rows, indexer.wq_b->rows()),
                          pass.New(DType::kF32, rows, indexer_shape_.heads)};
  const Arena::Scope scratch(pass.arena());
  const Tensor index_query = pass.NewActivation(rows, indexer.wq_b->rows());
  ops.Linear(query_low, *indexer.wq_b, index_query);
  const Tensor gate_logits = pass.New(DType::kF32, rows, indexer_shape_.heads);
  ops.Linear(h, *indexer.weights_proj, gate_logits);
  ops.IndexQueries(indexer_shape_, index_query, gate_logits, angles, made.queries, made.gates);
  return made;
}

Tensor Attention::LatentQueries(const Pass& pass, const AttentionWeights& attention, const Tensor& angles,
                                const ops::Activation& query_low) const {
  const int64_t rows = query_low.rows();
  const Tensor query_latent = pass.NewActivation(rows, shape_.heads * shape_.latent_width());
  const Arena::Scope scratch(pass.arena());
  const Tensor query = pass.NewActivation(rows, attention.q_b_proj->rows());
  pass.ops().Linear(query_low, *attention.q_b_proj, query);
  pass.ops().AbsorbQuery(shape_, query, *attention.up_keys, angles, query_latent);
  return query_latent;
}

// o_t = W_o W_uv softmax(scale * [W_uk^T q_nope; q_pe] . [c; k_pe]) c   over S_t
Tensor Attention::Attend(const Pass& pass, const AttentionWeights& attention, const ops::PagedCache& latents,
                         const Tensor& query_latent, const Tensor& selection, DType type) const {
  ops::Ops& ops = pass.ops();
  const int64_t rows = query_latent.rows;
  const Tensor out_latent = pass.NewActivation(rows, shape_.heads * shape_.latent);
  ops.SparseAttention(shape_, query_latent, latents, pass.of_heads(), pass.pages(), selection, softmax_scale_,
                      out_latent);
  const Tensor heads = pass.NewActivation(rows, shape_.heads * shape_.value);
  ops.ValueUp(shape_, out_latent, *attention.up_values, heads);
  const Tensor out = pass.New(type, rows, attention.o_proj->rows());
  ops.Linear(heads, *attention.o_proj, out);
  return out;
}

}  // namespace sluice::model
