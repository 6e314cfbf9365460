#include "evaluate/logprobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "evaluate/data_files.h"

namespace sluice::evaluate {
namespace {

// A log-probability and its bits: those of the fp32 number that it is, of the double where it is none.
std::string Shown(const std::optional<double>& value) {
  if (!value) return "none";
  const auto narrow = static_cast<float>(*value);
  if (std::bit_cast<uint64_t>(static_cast<double>(narrow)) == std::bit_cast<uint64_t>(*value)) {
    return fmt::format("{} ({:08x})", narrow, std::bit_cast<uint32_t>(narrow));
  }
  return fmt::format("{} ({:016x})", *value, std::bit_cast<uint64_t>(*value));
}

bool SameBits(const std::optional<double>& one, const std::optional<double>& other) {
  if (!one || !other) return one.has_value() == other.has_value();
  return std::bit_cast<uint64_t>(*one) == std::bit_cast<uint64_t>(*other);
}

void TakeLists(const Json& tokens, const Json& logprobs, std::size_t count, LogprobRun& run) {
  for (std::size_t i = 0; i < count; ++i) {
    run.tokens.push_back(tokens.at(i).get<std::string>());
    const Json& value = logprobs.at(i);
    run.logprobs.push_back(value.is_null() ? std::nullopt : std::optional<double>(value.get<double>()));
  }
}

}  // namespace

double LogprobRun::sum() const {
  double sum = 0;
  for (const auto& value : logprobs) sum += value.value_or(0);
  return sum;
}

LogprobDifference Compare(const LogprobRun& one, const LogprobRun& other) {
  LogprobDifference difference;
  const std::size_t both = std::min(one.tokens.size(), other.tokens.size());
  difference.tokens = static_cast<int64_t>(std::max(one.tokens.size(), other.tokens.size()));
  difference.same_tokens = one.tokens == other.tokens;
  for (std::size_t i = 0; i < both; ++i) {
    if (one.logprobs[i] && other.logprobs[i]) {
      difference.largest = std::max(difference.largest, std::abs(*one.logprobs[i] - *other.logprobs[i]));
    }
    if (one.tokens[i] == other.tokens[i] && SameBits(one.logprobs[i], other.logprobs[i])) {
      ++difference.equal;
    } else if (difference.first < 0) {
      difference.first = static_cast<int64_t>(i);
      difference.first_in_words =
          one.tokens[i] == other.tokens[i]
              ? fmt::format("token {} {}: {} against {}", i, ToText(one.tokens[i]), Shown(one.logprobs[i]),
                            Shown(other.logprobs[i]))
              : fmt::format("token {} is {} against {}", i, ToText(one.tokens[i]), ToText(other.tokens[i]));
    }
  }
  if (difference.first < 0 && one.tokens.size() != other.tokens.size()) {
    difference.first = static_cast<int64_t>(both);
    difference.first_in_words = fmt::format("{} tokens against {}", one.tokens.size(), other.tokens.size());
  }
  return difference;
}

LogprobRun AskLogprobs(const ServerOptions& options, const std::string& text, int64_t most_tokens) {
  if (options.api != Api::kOpenAi) {
    Fail(ErrorKind::kUsage,
         "log-probabilities are asked of /v1/completions alone: leave out --backend sglang");
  }
  const ServerOptions named = WithModel(options);
  const std::string address = named.connection.server.ToString();
  CompletionServer server(named);
  CompletionRequest request;
  request.prompt = text;
  if (most_tokens > 0) {
    auto ids = server.Tokenize(text);
    if (!ids) {
      Fail(ErrorKind::kNetwork, "{} has no /tokenize, which --tokens needs: give a text of the right length",
           address);
    }
    ids->resize(std::min(ids->size(), static_cast<std::size_t>(most_tokens)));
    request.prompt = std::move(*ids);
  }
  // One token more is asked for, as evaluation harnesses do: not every server takes 0.
  request.max_tokens = 1;
  request.prompt_logprobs = true;
  const Completion completion = server.Complete(request);
  LogprobRun run;
  run.source = address;
  run.model = named.model;
  run.system_fingerprint = completion.system_fingerprint;
  try {
    const Json& tokens = completion.logprobs.at("tokens");
    const Json& logprobs = completion.logprobs.at("token_logprobs");
    const std::size_t entries = std::min(tokens.size(), logprobs.size());
    const auto prompt =
        static_cast<std::size_t>(completion.prompt_tokens.value_or(static_cast<int64_t>(entries) - 1));
    if (prompt == 0 || entries < prompt) {
      Fail(ErrorKind::kNetwork, "{} gives log-probabilities of {} tokens for a prompt of {}", address,
           entries, prompt);
    }
    TakeLists(tokens, logprobs, prompt, run);
  } catch (const Json::exception&) {
    Fail(ErrorKind::kNetwork,
         "{} gives no log-probabilities of the prompt: it takes no `echo` with `logprobs` on /v1/completions",
         address);
  }
  return run;
}

Json ToJson(const LogprobRun& run) {
  Json value;
  value["source"] = run.source;
  value["model"] = run.model;
  value["system_fingerprint"] = run.system_fingerprint;
  value["sum"] = run.sum();
  value["tokens"] = run.tokens;
  Json logprobs = Json::array();
  for (const auto& logprob : run.logprobs) logprobs.push_back(logprob ? Json(*logprob) : Json());
  value["token_logprobs"] = std::move(logprobs);
  return value;
}

LogprobRun ReadLogprobRun(const std::filesystem::path& file) {
  const Json value =
      Json::parse(ReadFile(file, "--compare takes servers' addresses and files OUTPUT.json of this command"),
                  nullptr, false);
  LogprobRun run;
  run.source = file.string();
  try {
    const Json& first = value.at("runs").at(0);
    run.model = first.at("model").get<std::string>();
    run.system_fingerprint = first.at("system_fingerprint").get<std::string>();
    const Json& tokens = first.at("tokens");
    if (tokens.size() != first.at("token_logprobs").size()) {
      Fail(ErrorKind::kUsage, "{} has {} tokens and {} log-probabilities", file.string(), tokens.size(),
           first["token_logprobs"].size());
    }
    TakeLists(tokens, first.at("token_logprobs"), tokens.size(), run);
  } catch (const Json::exception&) {
    Fail(ErrorKind::kUsage, "{} is no result of `sluice eval logprobs`", file.string());
  }
  return run;
}

std::string LogprobTable(const std::vector<LogprobRun>& runs) {
  std::size_t width = 6;
  for (const LogprobRun& run : runs) width = std::max(width, run.source.size());
  std::string text = fmt::format("{:<{}}  {:>8}  {:>15}  {:>8}  {:>8}  {:>18}\n", "source", width, "tokens",
                                 "log-likelihood", "equal", "first", "largest difference");
  std::string words;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    text +=
        fmt::format("{:<{}}  {:>8}  {:>15.6f}", runs[i].source, width, runs[i].tokens.size(), runs[i].sum());
    if (i == 0) {
      text += "\n";
      continue;
    }
    const LogprobDifference difference = Compare(runs[0], runs[i]);
    text += fmt::format("  {:>8}  {:>8}  {:>18}\n", difference.equal,
                        difference.none() ? "none" : fmt::format("{}", difference.first), difference.largest);
    if (!difference.none()) words += fmt::format("{}: {}\n", runs[i].source, difference.first_in_words);
  }
  if (runs.size() < 2) return text;
  return text + (words.empty() ? "All log-probabilities are equal, bit for bit.\n" : words);
}

bool RunLogprobs(const LogprobOptions& options) {
  std::string text;
  const bool asks = std::ranges::any_of(options.sides, [](const auto& side) { return side.file.empty(); });
  if (asks) text = ReadFile(options.text_file, "--text-file is the text whose log-probabilities are wanted");
  if (asks && text.empty()) Fail(ErrorKind::kUsage, "{} is empty", options.text_file.string());
  std::vector<LogprobRun> runs;
  std::optional<Error> failure;
  try {
    for (const LogprobSide& side : options.sides) {
      runs.push_back(side.file.empty() ? AskLogprobs(side.server, text, options.most_tokens)
                                       : ReadLogprobRun(side.file));
    }
  } catch (const Error& error) {
    failure = error;
  }
  const std::string table =
      (failure ? fmt::format("PARTIAL: {}\n", failure->what()) : "") + LogprobTable(runs);
  bool equal = true;
  Json report;
  report["evaluation"] = "logprobs";
  report["partial"] = failure.has_value();
  report["reason"] = failure ? Json(failure->what()) : Json();
  report["runs"] = Json::array();
  report["differences"] = Json::array();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    report["runs"].push_back(ToJson(runs[i]));
    if (i == 0) continue;
    const LogprobDifference difference = Compare(runs[0], runs[i]);
    equal = equal && difference.none();
    report["differences"].push_back({{"source", runs[i].source},
                                     {"tokens", difference.tokens},
                                     {"equal", difference.equal},
                                     {"first", difference.none() ? Json() : Json(difference.first)},
                                     {"first_in_words", difference.first_in_words},
                                     {"largest", difference.largest},
                                     {"same_tokens", difference.same_tokens}});
  }
  if (!failure || !runs.empty()) fmt::print("{}", table);
  if (!options.output.empty()) {
    WriteFile(options.output.string() + ".json", ToText(report, 1) + "\n");
    WriteFile(options.output.string() + ".txt", table);
  }
  if (failure) throw Error(*failure);
  return equal;
}

}  // namespace sluice::evaluate
