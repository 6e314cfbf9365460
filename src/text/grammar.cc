#include "text/grammar.h"

#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/glm_texts.h"
#include "text/json_grammar.h"
#include "text/regex_grammar.h"
#include "text/utf8_guard.h"

namespace xgrammar {

// What its build leaves to the user (XGRAMMAR_LOG_CUSTOMIZE).
[[noreturn]] void LogFatalImpl(const std::string&, int, const std::string& message) {
  throw sluice::Error(sluice::ErrorKind::kInternal, message);
}
void LogMessageImpl(const std::string&, int, int, const std::string&) {}

}  // namespace xgrammar

namespace sluice::text {
namespace {

constexpr int64_t kKeptBytes = int64_t{256} << 20;  // of compiled grammars

size_t WordsFor(size_t tokens) { return (tokens + 31) / 32; }

// The bytes of every token that may be part of an answer's text, empty for the others. Of added tokens these
// are the marks of calls, with `call_marks`.
std::vector<std::string_view> TextsOf(const Tokenizer& tokenizer, int64_t vocab_size, bool call_marks) {
  std::vector<std::string_view> texts(static_cast<size_t>(vocab_size));
  for (int64_t id = 0; id < std::min<int64_t>(vocab_size, tokenizer.vocab_size()); ++id) {
    const auto token = static_cast<int32_t>(id);
    const std::string_view bytes = tokenizer.TokenBytes(token);
    const bool is_mark = call_marks && std::ranges::find(kGlmCallMarks, bytes) != kGlmCallMarks.end();
    if (is_mark || !tokenizer.IsAdded(token)) texts[static_cast<size_t>(id)] = bytes;
  }
  return texts;
}

// What all grammars of one compiler share.
struct Vocabulary {
  explicit Vocabulary(std::vector<std::string_view> token_texts)
      : texts(std::move(token_texts)), guard(texts) {}

  // One token more than the vocabulary has stands for the end of the answer: whatever ends it in fact (a stop
  // token of the model or of the request) is not the grammar's to know. An empty text is never allowed.
  xgrammar::TokenizerInfo Info() const {
    std::vector<std::string> with_end(texts.begin(), texts.end());
    with_end.emplace_back();
    return {with_end, xgrammar::VocabType::RAW, static_cast<int>(with_end.size()),
            std::vector<int32_t>{static_cast<int32_t>(texts.size())}};
  }

  std::vector<std::string_view> texts;
  Utf8Guard guard;
};

}  // namespace

struct Grammar::Parts {
  xgrammar::CompiledGrammar compiled;
  std::shared_ptr<const Vocabulary> vocabulary;
};

Grammar::Grammar(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Grammar::~Grammar() = default;

struct GrammarState::Parts {
  explicit Parts(std::shared_ptr<const Grammar> of)
      : grammar(std::move(of)),
        vocabulary(*grammar->parts().vocabulary),
        matcher(grammar->parts().compiled),
        mask(WordsFor(vocabulary.texts.size() + 1)) {}

  std::shared_ptr<const Grammar> grammar;
  const Vocabulary& vocabulary;
  xgrammar::GrammarMatcher matcher;
  std::vector<uint32_t> mask;  // of the tokens and the end
  Utf8Place place = Utf8Place::kBetween;
};

GrammarState::GrammarState(std::shared_ptr<const Grammar> grammar)
    : parts_(std::make_unique<Parts>(std::move(grammar))) {}
GrammarState::~GrammarState() = default;
GrammarState::GrammarState(GrammarState&&) noexcept = default;
GrammarState& GrammarState::operator=(GrammarState&&) noexcept = default;

GrammarState::Next GrammarState::Fill(std::span<uint32_t> allowed) {
  Parts& parts = *parts_;
  const size_t tokens = parts.vocabulary.texts.size();
  SLUICE_CHECK(allowed.size() == WordsFor(tokens), "a mask of {} words for {} tokens", allowed.size(),
               tokens);
  auto words = static_cast<int64_t>(parts.mask.size());
  DLTensor tensor{};
  tensor.data = parts.mask.data();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = {kDLInt, 32, 1};
  tensor.shape = &words;
  parts.matcher.FillNextTokenBitmask(&tensor);

  const uint32_t end_bit = 1U << (tokens % 32);
  std::copy_n(parts.mask.begin(), allowed.size(), allowed.begin());
  if (tokens % 32 != 0) allowed.back() &= end_bit - 1;
  parts.vocabulary.guard.Narrow(parts.place, allowed);
  return {std::ranges::any_of(allowed, [](uint32_t word) { return word != 0; }),
          (parts.mask[tokens / 32] & end_bit) != 0};
}

bool GrammarState::Accept(int32_t token) {
  Parts& parts = *parts_;
  if (token < 0 || token >= std::ssize(parts.vocabulary.texts)) return false;
  const Utf8Place place = Follow(parts.place, parts.vocabulary.texts[static_cast<size_t>(token)]);
  if (place == Utf8Place::kBroken || !parts.matcher.AcceptToken(token)) return false;
  parts.place = place;
  return true;
}

struct GrammarCompiler::Parts {
  explicit Parts(std::shared_ptr<const Vocabulary> of)
      : vocabulary(std::move(of)),
        compiler(vocabulary->Info(), /*max_threads=*/1, /*cache_enabled=*/true, kKeptBytes) {}
  std::shared_ptr<const Vocabulary> vocabulary;
  xgrammar::GrammarCompiler compiler;
};

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer, int64_t vocab_size)
    : tokenizer_(tokenizer), vocab_size_(vocab_size) {}
GrammarCompiler::~GrammarCompiler() = default;

std::shared_ptr<const Grammar> GrammarCompiler::Compile(const std::string& rules, bool call_marks) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Parts>& parts = call_marks ? call_parts_ : parts_;
  if (parts == nullptr) {
    parts = std::make_unique<Parts>(
        std::make_shared<const Vocabulary>(TextsOf(tokenizer_, vocab_size_, call_marks)));
  }
  try {
    return std::make_shared<const Grammar>(std::unique_ptr<const Grammar::Parts>(
        new Grammar::Parts{parts->compiler.CompileGrammar(rules), parts->vocabulary}));
  } catch (const std::exception& error) {
    Fail(ErrorKind::kBadRequest, "no token mask could be made of it: {}", error.what());
  }
}

std::shared_ptr<const Grammar> GrammarCompiler::JsonSchema(std::string_view schema) {
  return Compile(JsonSchemaRules(schema));
}
std::shared_ptr<const Grammar> GrammarCompiler::JsonObject() { return Compile(JsonObjectRules()); }
std::shared_ptr<const Grammar> GrammarCompiler::Regex(std::string_view pattern) {
  return Compile(RegexRules(pattern));
}
std::shared_ptr<const Grammar> GrammarCompiler::Calls(const std::string& rules) {
  return Compile(rules, true);
}

}  // namespace sluice::text
