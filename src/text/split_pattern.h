#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace sluice::text {

// What a search needs besides the pattern; one per thread at a time, usable with every pattern.
class MatchScratch {
 public:
  MatchScratch();
  ~MatchScratch();
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;

 private:
  friend class SplitPattern;
  pcre2_real_match_data_8* data_;
  pcre2_real_match_context_8* context_;
  pcre2_real_jit_stack_8* stack_;
};

// One "Split" step of a pre-tokenizer with behavior "Isolated": a piece is cut into the matches of a pattern
// and the text between them.
class SplitPattern {
 public:
  struct Range {
    std::size_t begin;  // bytes
    std::size_t end;
  };

  // `pattern` in the dialect of tokenizer.json (pattern_dialect.h). Refuses with Error(kModelFiles), `where`
  // first, a pattern that is not supported or that can match the empty string.
  SplitPattern(std::string_view pattern, const std::string& where);

  // The first match in `piece` at or after byte `from`; {piece.size(), piece.size()} when there is none.
  // `piece` must be valid UTF-8 and is all the pattern sees. Throws Error(kBadRequest) when the search runs
  // over PCRE2's limits on depth or steps.
  Range Find(std::string_view piece, std::size_t from, MatchScratch& scratch) const;

  // Calls use(part) for each part of `piece`, in order; the parts are not empty and together are `piece`.
  template <typename Use>
  void Split(std::string_view piece, MatchScratch& scratch, Use&& use) const {
    for (std::size_t at = 0; at < piece.size();) {
      const Range match = Find(piece, at, scratch);
      if (match.begin > at) use(piece.substr(at, match.begin - at));
      if (match.end > match.begin) use(piece.substr(match.begin, match.end - match.begin));
      at = match.end;
    }
  }

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
  bool jit_;
};

}  // namespace sluice::text
