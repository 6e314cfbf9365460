#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "evaluate/completion_server.h"
#include "evaluate/crowd.h"
#include "evaluate/json.h"

namespace sluice::evaluate {

// What every evaluation that asks questions is told.
struct RunOptions {
  ServerOptions server;
  int64_t parallel = 64;
  bool allow_malformed = false;
  std::filesystem::path output;           // OUTPUT.json and OUTPUT.txt are written; empty: neither
  std::filesystem::path result_file;      // the reference's line is appended to this; empty: to none
  std::filesystem::path raw_result_file;  // a line per answer, as the reference's; empty: none
};

// One question and what became of it.
struct Answer {
  std::string prompt;
  std::string label;
  bool answered = false;
  std::string prediction;  // empty: none could be read from the text
  Completion completion;

  bool right() const { return answered && !prediction.empty() && prediction == label; }
};

// The JSON value that both accuracy evaluations begin with: what was asked of whom, how it ended, the share
// of right answers among those answered and its 95 % interval.
Json ReportOf(const std::string& evaluation, const RunOptions& options, const CrowdEnd& end,
              const std::vector<Answer>& answers, int64_t malformed);
Json AnswersOf(const std::vector<Answer>& answers);

// "95 % interval: 0.935 to 0.959 (Wilson, 1250 right of 1319)", and before it, when the run was not
// complete, a line that says so.
std::string ClosingLines(const CrowdEnd& end, const std::vector<Answer>& answers, int64_t malformed);

// Writes OUTPUT.json and OUTPUT.txt, and for complete runs the reference's files: `result_line` and a line
// per answer.
void WriteResults(const RunOptions& options, const CrowdEnd& end, const Json& report, const std::string& text,
                  const std::string& result_line, const std::vector<Answer>& answers);

// Throws what ended an incomplete run, after its results are saved.
void ThrowUnlessComplete(const CrowdEnd& end, const std::filesystem::path& output);

}  // namespace sluice::evaluate
