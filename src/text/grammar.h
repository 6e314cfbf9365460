#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace sluice::text {

// What an answer must be, compiled for one vocabulary. Constant, so any number of requests may share it.
class Grammar {
 public:
  struct Parts;
  explicit Grammar(std::unique_ptr<const Parts> parts);
  ~Grammar();
  const Parts& parts() const { return *parts_; }

 private:
  std::unique_ptr<const Parts> parts_;
};

// How far one answer has come in its grammar. Not thread-safe.
class GrammarState {
 public:
  explicit GrammarState(std::shared_ptr<const Grammar> grammar);
  ~GrammarState();
  GrammarState(GrammarState&&) noexcept;
  GrammarState& operator=(GrammarState&&) noexcept;

  struct Next {
    bool text = false;  // some token may follow
    bool end = false;   // the text so far is a whole answer
  };
  // Sets bit t % 32 of allowed[t / 32] for every token t that may come next and clears the others; one word
  // for every 32 tokens of the vocabulary. Tokens that stand for no text, and added tokens (which the chat
  // encoding writes), are never among them, but for the marks of calls in a grammar of Calls.
  Next Fill(std::span<uint32_t> allowed);
  // Takes a token that Fill allowed; false, and nothing has changed, for one it did not.
  bool Accept(int32_t token);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Makes grammars for the tokens of one tokenizer and a model of `vocab_size` rows. Thread-safe: compilations
// run one after the other, and the latest are kept. The time of one is bounded by the limits of
// json_grammar.h and regex_grammar.h, whose refusals (Error(kBadRequest)) are also these functions'.
class GrammarCompiler {
 public:
  // `tokenizer` must outlive the compiler.
  GrammarCompiler(const Tokenizer& tokenizer, int64_t vocab_size);
  ~GrammarCompiler();

  std::shared_ptr<const Grammar> JsonSchema(std::string_view schema);
  std::shared_ptr<const Grammar> JsonObject();
  std::shared_ptr<const Grammar> Regex(std::string_view pattern);
  // Of rules that are there (glm47_grammar.h), with GLM's marks of calls as tokens beside the ordinary ones.
  std::shared_ptr<const Grammar> Calls(const std::string& rules);

 private:
  struct Parts;
  std::shared_ptr<const Grammar> Compile(const std::string& rules, bool call_marks = false);

  const Tokenizer& tokenizer_;
  const int64_t vocab_size_;
  std::mutex mutex_;
  // Made with the first grammar that needs them, for they sort the whole vocabulary: without and with the
  // marks.
  std::unique_ptr<Parts> parts_;
  std::unique_ptr<Parts> call_parts_;
};

}  // namespace sluice::text
