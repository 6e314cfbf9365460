#include "model/vocabulary.h"

#include <algorithm>
#include <numeric>

namespace sluice::model {
namespace {

int LaneOfToken(int32_t token, int64_t vocab_size, int lanes) {
  for (int lane = 0; lane < lanes; ++lane) {
    if (token < VocabularyOf(vocab_size, lane, lanes).end) return lane;
  }
  Fail(ErrorKind::kInternal, "token {} is outside the vocabulary of {}", token, vocab_size);
}

}  // namespace

void Embed(const Pass& pass, const Tensor& embed_tokens, int64_t vocab_size, const Tensor& x) {
  const int lanes = pass.split().lanes();
  if (lanes == 1) {
    for (const int32_t token : pass.tokens()) LaneOfToken(token, vocab_size, lanes);  // inside the vocabulary
    pass.ops().Embed(embed_tokens, 0, pass.tokens(), x);
    return;
  }
  const VocabularyRange mine = VocabularyOf(vocab_size, pass.lane(), lanes);
  // What I look up, destination lane by destination lane, and what each lane looks up for me.
  std::vector<int32_t> ids;
  std::vector<int64_t> sent(lanes, 0);
  std::vector<std::vector<int64_t>> rows_from(lanes);
  for (int lane = 0; lane < lanes; ++lane) {
    for (const int32_t row : pass.split().RowsOf(lane)) {
      const int32_t token = pass.tokens()[row];
      const int owner = LaneOfToken(token, vocab_size, lanes);
      if (owner == pass.lane()) {
        ids.push_back(token);
        ++sent[lane];
      }
      if (lane == pass.lane()) rows_from[owner].push_back(pass.split().LocalOf(row));
    }
  }
  const Arena::Scope scratch(pass.arena());
  const Tensor looked_up = pass.New(x.dtype, static_cast<int64_t>(ids.size()), x.cols);
  pass.ops().Embed(embed_tokens, mine.begin, ids, looked_up);
  const Tensor arrived = pass.New(x.dtype, x.rows, x.cols);
  const int64_t row_bytes = x.cols * SizeOf(x.dtype);
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> receive;
  std::vector<int64_t> source(x.rows);  // of each of my rows in `arrived`
  int64_t sent_row = 0;
  int64_t arrived_row = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    send.push_back(BytesOf(looked_up).subspan(sent_row * row_bytes, sent[lane] * row_bytes));
    sent_row += sent[lane];
    receive.push_back(BytesOf(arrived).subspan(arrived_row * row_bytes, rows_from[lane].size() * row_bytes));
    for (const int64_t row : rows_from[lane]) source[row] = arrived_row++;
  }
  pass.lanes().AllToAll("exchange embeddings", send, receive);
  pass.ops().CopyRows(arrived, source, x);
}

std::vector<int64_t> WantedRows(const step::Step& step) {
  std::vector<int64_t> wanted;
  int64_t row = 0;
  for (const auto& sequence : step.sequences) {
    const auto rows = static_cast<int64_t>(sequence.tokens.size());
    const bool all = sequence.prompt_logprobs || sequence.return_logits;
    for (int64_t i = 0; i < rows; ++i, ++row) {
      if (all || (sequence.sample && i == rows - 1)) wanted.push_back(row);
    }
  }
  return wanted;
}

void Head(const Pass& pass, const Tensor& norm, float eps, const ops::Weight& lm_head, int64_t vocab_size,
          const std::vector<int64_t>& wanted, const Tensor& x, const LogitsSink& sink) {
  const int lanes = pass.split().lanes();
  ops::Ops& ops = pass.ops();
  for (size_t begin = 0; begin < wanted.size(); begin += kSlabRows) {
    const Arena::Scope scratch(pass.arena());
    const std::span<const int64_t> slab(wanted.data() + begin,
                                        std::min<size_t>(kSlabRows, wanted.size() - begin));
    const auto rows = static_cast<int64_t>(slab.size());
    std::vector<std::vector<int64_t>> local(lanes);  // the slab's rows, by the lane that has them
    for (const int64_t row : slab) local[pass.split().LaneOf(row)].push_back(pass.split().LocalOf(row));

    const auto& here = local[pass.lane()];
    const Tensor mine = pass.New(x.dtype, static_cast<int64_t>(here.size()), x.cols);
    ops.CopyRows(x, here, mine);
    ops.RmsNorm(mine, norm, eps, mine);
    Tensor normed = mine;
    if (lanes > 1) {
      const Tensor by_lane = pass.New(x.dtype, rows, x.cols);
      std::vector<int64_t> bytes;
      std::vector<int64_t> next{0};  // where each lane's rows begin
      for (const auto& of_lane : local) {
        const auto count = static_cast<int64_t>(of_lane.size());
        bytes.push_back(count * x.cols * SizeOf(x.dtype));
        next.push_back(next.back() + count);
      }
      pass.lanes().AllGather("gather rows for the head", BytesOf(mine), BytesOf(by_lane), bytes);
      std::vector<int64_t> source;
      for (const int64_t row : slab) source.push_back(next[pass.split().LaneOf(row)]++);
      normed = pass.New(x.dtype, rows, x.cols);
      ops.CopyRows(by_lane, source, normed);
    }

    const Tensor part = pass.New(DType::kF32, rows, lm_head.rows());
    ops.Linear(normed, lm_head, part);
    if (lanes == 1) {
      sink(static_cast<int64_t>(begin), part);
      continue;
    }
    std::vector<std::span<const std::byte>> send(lanes);
    std::vector<std::span<std::byte>> receive(lanes);
    send[0] = BytesOf(part);
    std::vector<Tensor> parts;
    if (pass.lane() == 0) {
      for (int lane = 0; lane < lanes; ++lane) {
        const VocabularyRange range = VocabularyOf(vocab_size, lane, lanes);
        parts.push_back(pass.New(DType::kF32, rows, range.end - range.begin));
        receive[lane] = BytesOf(parts.back());
      }
    }
    pass.lanes().AllToAll("gather logits", send, receive);
    if (pass.lane() != 0) continue;
    const Tensor logits = pass.New(DType::kF32, rows, vocab_size);
    std::vector<int64_t> identity(rows);
    std::iota(identity.begin(), identity.end(), 0);
    int64_t column = 0;
    for (const Tensor& shard : parts) {
      ops.CopyRows(shard, identity, logits.ColRange(column, shard.cols));
      column += shard.cols;
    }
    sink(static_cast<int64_t>(begin), logits);
  }
}

}  // namespace sluice::model
