#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::evaluate {

// A fact that is hidden in a long context: `fact` is hidden, `question` stands at the context's end, and an
// answer that has `answer` in it is right.
struct Needle {
  std::string fact;
  std::string question;
  std::string answer;
};

enum class NeedleStyle {
  kProse,   // "The secret number of Oslo is 73105." for models that speak
  kRecall,  // "k17=v42" and "k17=", which `sluice checkpoint make --kind recall` knows to answer
};

inline constexpr int64_t kMostNeedles = 256;

// `count` needles with different names, chosen by the seed; at most kMostNeedles.
std::vector<Needle> MakeNeedles(NeedleStyle style, int64_t count, uint64_t seed);

// At least `bytes` bytes of sentences that have neither digits nor names of needles in them.
std::string MakeHay(int64_t bytes, uint64_t seed);

// Whether an answer has the needle's number: as a number of its own in prose, as the first thing said in
// the recall form.
bool IsFound(NeedleStyle style, const Needle& needle, const std::string& answer);

}  // namespace sluice::evaluate
