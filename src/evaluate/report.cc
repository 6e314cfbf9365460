#include "evaluate/report.h"

#include <fmt/format.h>

#include "evaluate/data_files.h"
#include "evaluate/interval.h"
#include "text/python_json.h"

namespace sluice::evaluate {
namespace {

struct Counts {
  int64_t answered = 0;
  int64_t right = 0;
};

Counts CountsOf(const std::vector<Answer>& answers) {
  Counts counts;
  for (const Answer& answer : answers) {
    counts.answered += answer.answered;
    counts.right += answer.right();
  }
  return counts;
}

}  // namespace

Json ReportOf(const std::string& evaluation, const RunOptions& options, const CrowdEnd& end,
              const std::vector<Answer>& answers, int64_t malformed) {
  const Counts counts = CountsOf(answers);
  const Interval interval = WilsonInterval(counts.right, counts.answered);
  Json report;
  report["evaluation"] = evaluation;
  report["partial"] = !end.complete();
  report["reason"] = end.complete() ? Json() : Json(end.reason());
  report["server"] = options.server.connection.server.ToString();
  report["api"] = options.server.api == Api::kSglang ? "/generate" : "/v1/completions";
  report["model"] = options.server.model;
  for (const Answer& answer : answers) {
    if (answer.completion.system_fingerprint.empty()) continue;
    report["system_fingerprint"] = answer.completion.system_fingerprint;
    break;
  }
  report["parallel"] = options.parallel;
  report["questions"] = answers.size();
  report["answered"] = counts.answered;
  report["right"] = counts.right;
  report["malformed"] = malformed;
  report["accuracy"] = counts.answered == 0
                           ? Json()
                           : Json(static_cast<double>(counts.right) / static_cast<double>(counts.answered));
  report["interval"] = {
      {"confidence", 0.95}, {"method", "wilson"}, {"low", interval.low}, {"high", interval.high}};
  report["latency_seconds"] = end.seconds;
  return report;
}

Json AnswersOf(const std::vector<Answer>& answers) {
  Json list = Json::array();
  for (const Answer& answer : answers) {
    Json entry;
    entry["answered"] = answer.answered;
    entry["label"] = answer.label;
    if (answer.answered) {
      entry["prediction"] = answer.prediction.empty() ? Json() : Json(answer.prediction);
      entry["right"] = answer.right();
      entry["finish_reason"] = answer.completion.finish_reason;
      if (answer.completion.completion_tokens)
        entry["completion_tokens"] = *answer.completion.completion_tokens;
      entry["text"] = answer.completion.text;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

std::string ClosingLines(const CrowdEnd& end, const std::vector<Answer>& answers, int64_t malformed) {
  const Counts counts = CountsOf(answers);
  const Interval interval = WilsonInterval(counts.right, counts.answered);
  std::string text;
  if (!end.complete()) {
    text += fmt::format("PARTIAL: {} of {} questions were answered: {}\n", counts.answered, answers.size(),
                        end.reason());
  }
  if (malformed > 0) text += fmt::format("Malformed data lines left out: {}\n", malformed);
  return text + fmt::format("95 % interval: {:.3f} to {:.3f} (Wilson, {} right of {})\n", interval.low,
                            interval.high, counts.right, counts.answered);
}

void WriteResults(const RunOptions& options, const CrowdEnd& end, const Json& report, const std::string& text,
                  const std::string& result_line, const std::vector<Answer>& answers) {
  if (!options.output.empty()) {
    WriteFile(options.output.string() + ".json", ToText(report, 1) + "\n");
    WriteFile(options.output.string() + ".txt", text);
  }
  if (!end.complete()) return;  // the reference's forms have no way to say so
  if (!options.result_file.empty()) AppendLine(options.result_file, result_line);
  if (options.raw_result_file.empty()) return;
  std::string raw;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    raw += fmt::format("{}{{\"prompt_id\": {}, \"prompt\": {}, \"output\": {}, \"correct\": {}}}",
                       i == 0 ? "" : "\n", i, text::PythonJsonString(answers[i].prompt),
                       text::PythonJsonString(answers[i].completion.text), answers[i].right());
  }
  WriteFile(options.raw_result_file, raw);
}

void ThrowUnlessComplete(const CrowdEnd& end, const std::filesystem::path& output) {
  if (end.complete()) return;
  const std::string kept =
      output.empty() ? "nothing was saved, since --output is empty"
                     : fmt::format("what there is stands in {}.json, marked as partial", output.string());
  if (end.failure) Fail(end.failure->kind(), "{}; {}", end.failure->what(), kept);
  throw Interrupted(fmt::format("interrupted; {}", kept));
}

}  // namespace sluice::evaluate
