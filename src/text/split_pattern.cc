#include "text/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstdint>

#include "base/error.h"
#include "text/pattern_dialect.h"

namespace sluice::text {
namespace {

// Bytes of stack for compiled patterns. The patterns of the known models need none of it to speak of.
constexpr std::size_t kFirstStack = 32 << 10;
constexpr std::size_t kLargestStack = 4 << 20;

std::string Pcre2Message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR Subject(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

MatchScratch::MatchScratch()
    : data_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      stack_(pcre2_jit_stack_create(kFirstStack, kLargestStack, nullptr)) {
  SLUICE_CHECK(data_ != nullptr && context_ != nullptr, "PCRE2 could not allocate its match data");
  // Without a stack of its own (a PCRE2 built without JIT) the machine stack serves.
  if (stack_ != nullptr) pcre2_jit_stack_assign(context_, nullptr, stack_);
}

MatchScratch::~MatchScratch() {
  pcre2_jit_stack_free(stack_);
  pcre2_match_context_free(context_);
  pcre2_match_data_free(data_);
}

void SplitPattern::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

SplitPattern::SplitPattern(std::string_view pattern, const std::string& where) {
  const std::string rewritten = PatternForPcre2(pattern, where);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(Subject(rewritten), rewritten.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE, &error, &offset, nullptr));
  if (code_ == nullptr) {
    Fail(ErrorKind::kModelFiles, "{}: the pattern does not compile: {}, near \"{}\".", where,
         Pcre2Message(error), rewritten.substr(offset < 10 ? 0 : offset - 10, 20));
  }
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    Fail(ErrorKind::kModelFiles,
         "{}: the pattern can match the empty string, which is not supported; every match must take text.",
         where);
  }
  jit_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

SplitPattern::Range SplitPattern::Find(std::string_view piece, std::size_t from,
                                       MatchScratch& scratch) const {
  const auto search = jit_ ? pcre2_jit_match : pcre2_match;
  const int found = search(code_.get(), Subject(piece), piece.size(), from, jit_ ? 0 : PCRE2_NO_UTF_CHECK,
                           scratch.data_, scratch.context_);
  if (found == PCRE2_ERROR_NOMATCH) return {piece.size(), piece.size()};
  if (found < 0) {
    Fail(
        ErrorKind::kBadRequest,
        "The tokenizer's pattern ran over its limit ({}) at byte {} of a run of {} bytes; break the text up.",
        Pcre2Message(found), from, piece.size());
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data_);
  return {bounds[0], bounds[1]};
}

}  // namespace sluice::text
