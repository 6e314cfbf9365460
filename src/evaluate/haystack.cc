#include "evaluate/haystack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <string_view>

#include "evaluate/python_text.h"

namespace sluice::evaluate {
namespace {

using Words = std::array<std::string_view, 16>;

constexpr Words kFirst = {"north", "south", "east", "west",  "upper", "lower", "old",  "new",
                          "stone", "river", "hill", "field", "wood",  "lake",  "salt", "iron"};
constexpr Words kSecond = {"gate", "ford", "haven", "bridge", "mill",  "church", "market", "well",
                           "port", "bury", "stead", "dale",   "cross", "moor",   "cliff",  "bay"};
constexpr Words kWho = {"the baker",    "a sailor",      "the teacher", "her cousin",
                        "the gardener", "a young clerk", "the captain", "my uncle",
                        "the painter",  "a neighbour",   "the mason",   "his sister",
                        "the farmer",   "an old man",    "the nurse",   "a stranger"};
constexpr Words kDoes = {"walked past",    "remembered",  "wrote about",       "looked at",
                         "waited beside",  "talked of",   "came back to",      "never forgot",
                         "painted",        "asked about", "stood in front of", "dreamt of",
                         "left early for", "swept",       "admired",           "went around"};
constexpr Words kWhat = {"the harbour",     "a narrow street", "the garden wall",   "an empty house",
                         "the clock tower", "a pile of hay",   "the long road",     "the market hall",
                         "a quiet field",   "the old library", "the ferry",         "a wooden bench",
                         "the orchard",     "the stable",      "a heap of letters", "the bakery"};
constexpr Words kWhen = {
    "before sunrise",     "in the rain",         "on a cold evening",    "after supper",
    "without a word",     "for the second time", "while it was snowing", "as usual",
    "with some surprise", "when the bells rang", "on the way home",      "a little too late",
    "in good spirits",    "under a grey sky",    "during the holidays",  "that summer"};

std::string PlaceName(int64_t index) {
  std::string name(kFirst[static_cast<std::size_t>(index / 16)]);
  name += kSecond[static_cast<std::size_t>(index % 16)];
  name.front() = static_cast<char>(name.front() - 'a' + 'A');
  return name;
}

}  // namespace

std::vector<Needle> MakeNeedles(NeedleStyle style, int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int64_t> names(kMostNeedles);
  std::iota(names.begin(), names.end(), 0);
  std::ranges::shuffle(names, random);
  std::vector<int64_t> values = names;  // different ones, so that no needle's value answers for another
  std::ranges::shuffle(values, random);
  std::vector<Needle> needles;
  for (int64_t i = 0; i < count; ++i) {
    if (style == NeedleStyle::kRecall) {
      const std::string key = fmt::format("k{}=", names[i]);
      const std::string value = fmt::format("v{}", values[i]);
      needles.push_back({key + value, key, value});
    } else {
      const std::string place = PlaceName(names[i]);
      const std::string number =
          fmt::format("{}", 10000 + values[i] * 351 + static_cast<int64_t>(random() % 351));
      needles.push_back(
          {fmt::format(" The secret number of {} is {}.", place, number),
           fmt::format("\n\nQuestion: What is the secret number of {}? Answer with the number alone.\n"
                       "Answer: The secret number of {} is",
                       place, place),
           number});
    }
  }
  return needles;
}

std::string MakeHay(int64_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto one_of = [&random](const Words& words) { return words[random() % words.size()]; };
  std::string hay;
  while (static_cast<int64_t>(hay.size()) < bytes) {
    std::string sentence =
        fmt::format("{} {} {} {}. ", one_of(kWho), one_of(kDoes), one_of(kWhat), one_of(kWhen));
    sentence.front() = static_cast<char>(sentence.front() - 'a' + 'A');
    hay += sentence;
  }
  return hay;
}

bool IsFound(NeedleStyle style, const Needle& needle, const std::string& answer) {
  if (style == NeedleStyle::kRecall) {
    // The value alone, or the value and whatever is said after it, but not a longer number.
    const std::string_view said = Stripped(answer);
    return said.starts_with(needle.answer) &&
           (said.size() == needle.answer.size() || said[needle.answer.size()] < '0' ||
            said[needle.answer.size()] > '9');
  }
  std::string digits;  // with the commas that some write into numbers gone
  std::string plain = answer;
  std::erase(plain, ',');
  for (const char c : plain + " ") {
    if (c >= '0' && c <= '9') {
      digits += c;
      continue;
    }
    if (digits == needle.answer) return true;
    digits.clear();
  }
  return false;
}

}  // namespace sluice::evaluate
