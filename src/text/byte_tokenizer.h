#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::text {

// The smallest vocabulary of ByteTokenizerJson: the special tokens, the bytes and a few merges.
inline constexpr int32_t kSmallestByteVocabulary = 272;

// The text of a tokenizer.json for a checkpoint with made-up weights: DeepSeek's pre-tokenizer and special
// tokens over a byte-level vocabulary of exactly `vocab_size` tokens, so that every id a model may sample is
// a token. Ids:
//   0 <｜begin▁of▁sentence｜>   1 <｜end▁of▁sentence｜>   2 <｜User｜>   3 <｜Assistant｜>   4 <think>
//   5 </think>   6 ｜DSML｜   7..262 the bytes 0x00..0xFF   263.. merges: a space or a letter followed by
//   letters, shorter ones first, then by the frequency of the letters in English (" e", " t", .. "ee", "et",
//   ..)   the last ids: `words`, in their order, each one token wherever it stands in a text
// Error(kUsage) unless kSmallestByteVocabulary + words.size() <= vocab_size <= 2^24.
std::string ByteTokenizerJson(int32_t vocab_size, const std::vector<std::string>& words = {});

// The text of the tokenizer_config.json beside it. `model_max_length` is the context length in tokens.
std::string ByteTokenizerConfigJson(int64_t model_max_length);

}  // namespace sluice::text
