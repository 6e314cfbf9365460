#include "evaluate/needle.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "evaluate/crowd.h"
#include "evaluate/data_files.h"
#include "evaluate/interval.h"
#include "evaluate/report.h"

namespace sluice::evaluate {
namespace {

using Ids = std::vector<int32_t>;

constexpr int64_t kBytesPerToken = 4;  // where the server cannot count: about what English takes

// Texts as the server's tokens, or, where it has no /tokenize, as bytes that are sent as text.
class Measure {
 public:
  explicit Measure(const ServerOptions& options)
      : server_(options), ids_(server_.Tokenize("hay").has_value()) {}

  bool in_tokens() const { return ids_; }
  Ids Of(const std::string& text) {
    if (!ids_) return {text.begin(), text.end()};
    auto ids = server_.Tokenize(text);
    if (!ids) Fail(ErrorKind::kNetwork, "the server's /tokenize gives no tokens");
    return std::move(*ids);
  }
  int64_t UnitsOf(int64_t tokens) const { return ids_ ? tokens : tokens * kBytesPerToken; }
  Prompt PromptOf(Ids units) const {
    if (ids_) return units;
    return std::string(units.begin(), units.end());
  }

 private:
  CompletionServer server_;
  const bool ids_;
};

// At least `units` units of hay.
Ids Hay(Measure& measure, int64_t units, uint64_t seed) {
  for (int64_t bytes = units * (measure.in_tokens() ? 4 : 1);; bytes *= 2) {
    Ids hay = measure.Of(MakeHay(bytes, seed));
    if (static_cast<int64_t>(hay.size()) >= units) return hay;
  }
}

struct Question {
  std::size_t length = 0;
  int64_t trial = 0;
  int64_t depth = 0;
  Needle needle;
  Completion completion;
  bool answered = false;
  bool found = false;
};

// One haystack and the prompts that ask about it.
struct Haystack {
  std::vector<Question> questions;
  std::vector<Prompt> prompts;
};

Haystack BuildHaystack(const NeedleOptions& options, Measure& measure, const Ids& hay, std::size_t length,
                       int64_t trial) {
  const uint64_t seed = options.seed + static_cast<uint64_t>(trial) * options.lengths.size() + length;
  const std::vector<Needle> needles = MakeNeedles(options.style, options.depths, seed);
  std::vector<Ids> facts;
  for (int64_t depth = 0; depth < options.depths; ++depth) {
    facts.push_back(depth == options.leave_out ? Ids{} : measure.Of(needles[depth].fact));
  }
  Haystack stack;
  // Room for the longest question, so that all prompts begin alike.
  std::vector<Ids> questions;
  std::size_t longest = 0;
  for (const Needle& needle : needles) {
    questions.push_back(measure.Of(needle.question));
    longest = std::max(longest, questions.back().size());
  }
  for (int64_t depth = 0; depth < options.depths; ++depth) {
    const int64_t spare = static_cast<int64_t>(longest - questions[depth].size());
    stack.prompts.push_back(measure.PromptOf(
        NeedlePrompt(hay, facts, questions[depth], measure.UnitsOf(options.lengths[length]) - spare)));
    Question question;
    question.length = length;
    question.trial = trial;
    question.depth = depth;
    question.needle = needles[depth];
    stack.questions.push_back(std::move(question));
  }
  return stack;
}

std::string DepthName(const NeedleOptions& options, int64_t depth) {
  return fmt::format("{:.0f} %", options.depths == 1 ? 0.0
                                                     : 100.0 * static_cast<double>(depth) /
                                                           static_cast<double>(options.depths - 1));
}

std::string Table(const NeedleOptions& options, const std::vector<Question>& questions) {
  std::string text = fmt::format("{:>8}", "depth");
  for (const int64_t length : options.lengths) text += fmt::format("  {:>8}", length);
  text += "  tokens\n";
  for (int64_t depth = 0; depth < options.depths; ++depth) {
    text += fmt::format("{:>8}", DepthName(options, depth));
    for (std::size_t length = 0; length < options.lengths.size(); ++length) {
      int64_t found = 0;
      int64_t answered = 0;
      for (const Question& question : questions) {
        if (question.length != length || question.depth != depth) continue;
        found += question.found;
        answered += question.answered;
      }
      text += fmt::format("  {:>8}", answered == 0 ? "-" : fmt::format("{}/{}", found, answered));
    }
    text += depth == options.leave_out ? "  left out\n" : "\n";
  }
  return text;
}

Json ReportQuestions(const NeedleOptions& options, const std::vector<Question>& questions) {
  Json list = Json::array();
  for (const Question& question : questions) {
    Json entry;
    entry["tokens"] = options.lengths[question.length];
    entry["depth"] = options.depths == 1
                         ? 0.0
                         : static_cast<double>(question.depth) / static_cast<double>(options.depths - 1);
    entry["trial"] = question.trial;
    entry["hidden"] = question.depth != options.leave_out;
    entry["needle"] = question.needle.fact;
    entry["answered"] = question.answered;
    if (question.answered) {
      entry["found"] = question.found;
      entry["text"] = question.completion.text;
      if (question.completion.prompt_tokens) entry["prompt_tokens"] = *question.completion.prompt_tokens;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace

std::vector<int32_t> NeedlePrompt(const Ids& hay, const std::vector<Ids>& needles, const Ids& question,
                                  int64_t length) {
  auto straw = length - static_cast<int64_t>(question.size());
  for (const Ids& needle : needles) straw -= static_cast<int64_t>(needle.size());
  if (straw < 0 || straw > static_cast<int64_t>(hay.size())) {
    Fail(ErrorKind::kUsage,
         "a prompt of {} tokens has no room for {} needles and the question; ask for a longer "
         "one with --lengths or for fewer --depths",
         length, needles.size());
  }
  Ids prompt;
  prompt.reserve(static_cast<std::size_t>(length));
  int64_t at = 0;
  const auto count = static_cast<int64_t>(needles.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t until = count == 1 ? 0 : straw * i / (count - 1);
    prompt.insert(prompt.end(), hay.begin() + at, hay.begin() + until);
    prompt.insert(prompt.end(), needles[i].begin(), needles[i].end());
    at = until;
  }
  prompt.insert(prompt.end(), hay.begin() + at, hay.begin() + straw);
  prompt.insert(prompt.end(), question.begin(), question.end());
  return prompt;
}

bool RunNeedle(NeedleOptions options) {
  options.server = WithModel(options.server);
  Measure measure(options.server);
  if (!measure.in_tokens()) {
    fmt::print(stderr, "the server has no /tokenize: lengths are guessed, {} bytes for a token\n",
               kBytesPerToken);
  }
  const Ids hay = Hay(measure, measure.UnitsOf(std::ranges::max(options.lengths)), options.seed);
  std::vector<Question> questions;
  CrowdEnd end;
  for (std::size_t length = 0; length < options.lengths.size() && end.complete(); ++length) {
    for (int64_t trial = 0; trial < options.trials && end.complete(); ++trial) {
      Haystack stack = BuildHaystack(options, measure, hay, length, trial);
      const auto ask = [&](CompletionServer& server, int64_t i) {
        Question& question = stack.questions[i];
        question.completion =
            server.Complete({.prompt = stack.prompts[i], .max_tokens = options.max_new_tokens});
        question.found = IsFound(options.style, question.needle, question.completion.text);
        question.answered = true;
      };
      const std::string name = fmt::format("needle {}", options.lengths[length]);
      // The haystack is computed once: the other questions find it in the server's cache.
      const CrowdEnd first = RunCrowd(name + ", first", options.server, 1, 1, ask);
      end = first;
      if (first.complete() && options.depths > 1) {
        end = RunCrowd(name, options.server, options.depths - 1, options.parallel,
                       [&ask](CompletionServer& server, int64_t i) { ask(server, i + 1); });
      }
      questions.insert(questions.end(), stack.questions.begin(), stack.questions.end());
    }
  }

  int64_t answered = 0;
  int64_t found = 0;
  for (const Question& question : questions) {
    answered += question.answered;
    found += question.found;
  }
  const Interval interval = WilsonInterval(found, answered);
  const double share = answered == 0 ? 0 : static_cast<double>(found) / static_cast<double>(answered);
  std::string text = Table(options, questions);
  if (!end.complete()) text += fmt::format("PARTIAL: {}\n", end.reason());
  text += fmt::format("Found: {:.3f} ({} of {})\n95 % interval: {:.3f} to {:.3f} (Wilson)\n", share, found,
                      answered, interval.low, interval.high);
  fmt::print("{}", text);
  Json report;
  report["evaluation"] = "needle";
  report["partial"] = !end.complete();
  report["reason"] = end.complete() ? Json() : Json(end.reason());
  report["server"] = options.server.connection.server.ToString();
  report["model"] = options.server.model;
  report["style"] = options.style == NeedleStyle::kRecall ? "recall" : "prose";
  report["lengths_in"] = measure.in_tokens() ? "tokens" : "guessed tokens";
  report["seed"] = options.seed;
  report["answered"] = answered;
  report["found"] = found;
  report["share"] = share;
  report["interval"] = {
      {"confidence", 0.95}, {"method", "wilson"}, {"low", interval.low}, {"high", interval.high}};
  report["questions"] = ReportQuestions(options, questions);
  if (!options.output.empty()) {
    WriteFile(options.output.string() + ".json", ToText(report, 1) + "\n");
    WriteFile(options.output.string() + ".txt", text);
  }
  ThrowUnlessComplete(end, options.output);
  return share >= options.require;
}

}  // namespace sluice::evaluate
