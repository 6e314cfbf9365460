#pragma once

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_tokenizer.h"
#include "text/grammar.h"
#include "text/test_support.h"

namespace sluice::text {

// Grammars over the vocabulary of a made-up checkpoint: the bytes and some hundred short strings.
class GrammarWorld {
 public:
  static constexpr int32_t kVocabulary = 600;
  GrammarWorld() : file_(ByteTokenizerJson(kVocabulary)), tokenizer_(Tokenizer::Load(file_.path())) {}

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  GrammarCompiler& compiler() { return compiler_; }

  // Whether the grammar takes the text, byte by byte, as a whole answer.
  bool Takes(const std::shared_ptr<const Grammar>& grammar, std::string_view text) const {
    GrammarState state(grammar);
    for (const char byte : text) {
      if (!state.Accept(ByteToken(byte))) return false;
    }
    std::vector<uint32_t> mask((kVocabulary + 31) / 32);
    return state.Fill(mask).end;
  }

  struct Answer {
    std::string text;
    bool whole = false;  // not cut by `most` tokens
  };
  // A random walk through the masks, with a liking for quotes and closing brackets, or it would hardly end.
  Answer Sample(const std::shared_ptr<const Grammar>& grammar, std::mt19937& random, int most) const {
    GrammarState state(grammar);
    std::vector<uint32_t> mask((kVocabulary + 31) / 32);
    Answer answer;
    for (int i = 0; i < most; ++i) {
      const GrammarState::Next next = state.Fill(mask);
      if (next.end && (!next.text || random() % 3 == 0)) return {answer.text, true};
      std::vector<int32_t> tokens;
      for (int32_t token = 0; token < kVocabulary; ++token) {
        if ((mask[token / 32] >> (token % 32) & 1U) == 0) continue;
        const std::string_view bytes = tokenizer_->TokenBytes(token);
        const bool closes = bytes == "\"" || bytes == "}" || bytes == "]";
        tokens.insert(tokens.end(), closes ? 60 : 1, token);
      }
      if (tokens.empty()) {
        ADD_FAILURE() << "nothing may follow \"" << answer.text << "\", which is no whole answer";
        return answer;
      }
      const int32_t token = tokens[random() % tokens.size()];
      EXPECT_TRUE(state.Accept(token)) << token << " after " << answer.text;
      answer.text += tokenizer_->TokenBytes(token);
    }
    return answer;
  }

  static int32_t ByteToken(char byte) { return 7 + static_cast<unsigned char>(byte); }

 private:
  ScratchFile file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  GrammarCompiler compiler_{*tokenizer_, kVocabulary};
};

}  // namespace sluice::text
