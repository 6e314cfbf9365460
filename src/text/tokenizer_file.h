#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/bpe.h"

namespace sluice::text {

// What a Hugging Face tokenizer.json says, as far as sluice understands it.
struct TokenizerFile {
  struct Added {
    std::string content;
    int32_t id;
    bool special;
    bool normalized;  // looked for in what the tokens that are not `normalized` leave over
  };
  struct Pattern {
    std::string source;  // the dialect of pattern_dialect.h
    std::string where;   // its place in the file, for messages
  };
  std::vector<std::pair<std::string, int32_t>> vocabulary;  // in the byte-level alphabet
  std::vector<MergeRule> merges;                            // by rank
  std::vector<Added> added;
  std::vector<Pattern> splits;  // one after the other, each "Isolated"
  bool ignore_merges = false;   // a piece that is a token is that token
};

// Reads a byte-level BPE tokenizer.json:
//   model          BPE, merges as "a b" or ["a", "b"], no unknown token, no dropout, prefix, suffix or byte
//   fallback normalizer     null or an empty Sequence pre_tokenizer  ByteLevel, or a Sequence of Split
//   (Regex, Isolated, not inverted) that ends with ByteLevel;
//                  ByteLevel without prefix space, with or without its own regex
//   added_tokens   special or not, normalized or not; no lstrip, rstrip, single_word
//   post_processor null or ByteLevel (it moves offsets only); truncation, padding null; decoder ByteLevel
// Anything else is refused with Error(kModelFiles): the file, the place in it, what was found, what is
// supported.
TokenizerFile ReadTokenizerFile(const std::filesystem::path& path);

// The same for the text of such a file; `name` begins each sentence.
TokenizerFile ParseTokenizerFile(std::string_view text, const std::string& name);

}  // namespace sluice::text
