#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/completion_server.h"
#include "evaluate/json.h"

namespace sluice::evaluate {

// The log-probability of every token of a text, as one server gave it.
struct LogprobRun {
  std::string source;  // a server's address, or the file that it was read from
  std::string model;
  std::string system_fingerprint;
  std::vector<std::string> tokens;
  std::vector<std::optional<double>> logprobs;  // one per token; none for the first, which nothing precedes
  double sum() const;
};

// How one run differs from another, token by token. Numbers are equal when all their bits are: JSON carries
// them as the shortest digits that read back as the same number, so nothing is lost on the way.
struct LogprobDifference {
  int64_t tokens = 0;          // of the longer one
  int64_t equal = 0;           // tokens that are the same and have the same bits
  int64_t first = -1;          // the first that is not; -1: none
  double largest = 0;          // |a - b| over tokens that both have
  bool same_tokens = true;     // otherwise the runs are not of one text
  std::string first_in_words;  // "token 17 " fox": -1.25 (bfa00000) against -1.5 (bfc00000)"

  bool none() const { return first < 0; }
};

LogprobDifference Compare(const LogprobRun& one, const LogprobRun& other);

// Asks for a text's log-probabilities by `echo` with `logprobs`. With `most_tokens` above 0 only its first so
// many tokens, by the server's /tokenize. Error(kNetwork) when the server gives none.
LogprobRun AskLogprobs(const ServerOptions& server, const std::string& text, int64_t most_tokens);

Json ToJson(const LogprobRun& run);
// The first run of a file that this tool has written. Error(kUsage) naming what is wrong with it.
LogprobRun ReadLogprobRun(const std::filesystem::path& file);

// One line per run; those after the first are compared with it.
std::string LogprobTable(const std::vector<LogprobRun>& runs);

struct LogprobSide {
  std::string file;  // a result file; empty: a server
  ServerOptions server;
};

struct LogprobOptions {
  std::vector<LogprobSide> sides;   // one, or several to be compared with the first
  std::filesystem::path text_file;  // needed when one of them is a server
  int64_t most_tokens = 0;
  std::filesystem::path output;  // OUTPUT.json and OUTPUT.txt; empty: neither
};

// Asks every server, prints the table and writes the results; those gathered before a failure are saved,
// marked as partial. True when all bits are equal.
bool RunLogprobs(const LogprobOptions& options);

}  // namespace sluice::evaluate
