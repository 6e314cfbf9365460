#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::text {

// The smallest vocabulary of ByteTokenizerJson: the special tokens, the bytes and a few merges.
inline constexpr int32_t kSmallestByteVocabulary = 272;
inline constexpr int32_t kSmallestGlmByteVocabulary = 288;

enum class TokenizerFamily { kDeepSeek, kGlm };

// The text of a tokenizer.json for a checkpoint with made-up weights: DeepSeek's pre-tokenizer and special
// tokens over a byte-level vocabulary of exactly `vocab_size` tokens, so that every id a model may sample is
// a token. Ids:
//   0 <｜begin▁of▁sentence｜>   1 <｜end▁of▁sentence｜>   2 <｜User｜>   3 <｜Assistant｜>   4 <think>
//   5 </think>   6 ｜DSML｜   7..262 the bytes 0x00..0xFF   263.. merges: a space or a letter followed by
//   letters, shorter ones first, then by the frequency of the letters in English (" e", " t", .. "ee", "et",
//   ..)   the last ids: `words`, in their order, each one token wherever it stands in a text
// Of kGlm the same with GLM's pre-tokenizer and special tokens:
//   0 <|endoftext|>   1 [MASK]   2 [gMASK]   3 [sMASK]   4 <sop>   5 <eop>   6 <|system|>   7 <|user|>
//   8 <|assistant|>   9 <|observation|>   10 <think>   11 </think>   12 <tool_call>   13 </tool_call>
//   14 <tool_response>   15 </tool_response>   16 <arg_key>   17 </arg_key>   18 <arg_value>
//   19 </arg_value>   20..275 the bytes   276.. merges
// Error(kUsage) unless kSmallestByteVocabulary (or that of GLM) + words.size() <= vocab_size <= 2^24.
std::string ByteTokenizerJson(int32_t vocab_size, const std::vector<std::string>& words = {},
                              TokenizerFamily family = TokenizerFamily::kDeepSeek);

// The text of the tokenizer_config.json beside it. `model_max_length` is the context length in tokens.
std::string ByteTokenizerConfigJson(int64_t model_max_length,
                                    TokenizerFamily family = TokenizerFamily::kDeepSeek);

}  // namespace sluice::text
