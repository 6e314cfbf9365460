#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/answer_parser.h"
#include "text/python_json.h"

// What the tests of all markups of calls share.
namespace sluice::text {

// An answer as a parser leaves it.
struct Parsed {
  AnswerPiece piece;
  std::string fault;
  bool operator==(const Parsed&) const = default;
};

inline void PrintTo(const Parsed& parsed, std::ostream* out) {
  *out << parsed.piece.reasoning << " | " << parsed.piece.content;
  for (const ToolCall& call : parsed.piece.calls) *out << " | " << call.name << call.arguments;
  *out << " | " << parsed.fault;
}

// The parser is given the text in pieces of `next_size()` bytes.
template <typename NextSize>
Parsed ParsePieces(const AnswerFormat& format, std::string_view text, const NextSize& next_size) {
  AnswerParser parser(format);
  AnswerPiece all;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, next_size());
    all.Append(parser.Push(piece));
    text.remove_prefix(piece.size());
  }
  all.Append(parser.Finish());
  return {all, parser.fault()};
}

inline Parsed Parse(const AnswerFormat& format, std::string_view text) {
  return ParsePieces(format, text, [&] { return text.size(); });
}

// However an answer is cut, it is parsed as if it came at once. 100,000 answers, each of up to nine of
// `parts`, which are whole and broken markup, so chosen that borders of all kinds meet; at least a tenth of
// the answers must call something. What is parsed is decided by `format`, for each answer.
inline void ExpectAnyCutGivesTheSameAnswer(uint64_t seed, const std::vector<std::string>& parts,
                                           const std::function<AnswerFormat(std::mt19937_64&)>& format) {
  constexpr int kChunkings = 100'000;
  std::mt19937_64 random(seed);
  int called = 0;
  for (int i = 0; i < kChunkings; ++i) {
    std::string text;
    const auto count = random() % 10;
    for (std::size_t part = 0; part < count; ++part) text += parts[random() % parts.size()];
    const AnswerFormat as = format(random);
    const Parsed whole = Parse(as, text);
    called += whole.piece.calls.empty() ? 0 : 1;
    const std::size_t longest = 1 + random() % 12;
    ASSERT_EQ(ParsePieces(as, text, [&] { return 1 + random() % longest; }), whole) << text;
    for (const ToolCall& call : whole.piece.calls) ASSERT_TRUE(IsJsonObject(call.arguments)) << text;
  }
  EXPECT_GT(called, kChunkings / 10);
}

}  // namespace sluice::text
