#include "evaluate/mmlu.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/error.h"
#include "evaluate/csv.h"
#include "evaluate/pandas_column.h"
#include "evaluate/python_text.h"
#include "evaluate/tiktoken_counter.h"
#include "text/utf8.h"

namespace sluice::evaluate {
namespace {

constexpr int64_t kMostShotTokens = 1536;
constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr const char* kLayout =
    "--data is the directory of Hendrycks' data.tar, with dev/SUBJECT_dev.csv and test/SUBJECT_test.csv";

std::vector<MmluItem> ReadItems(const std::filesystem::path& file, Defects& defects) {
  const std::string text = ReadFile(file, kLayout);
  std::vector<CsvRow> rows;
  std::size_t width = 0;
  for (CsvRow& row : ReadCsv(text)) {
    if (width == 0) width = row.cells.size();
    const bool utf8 = std::ranges::all_of(
        row.cells, [](const std::string& cell) { return text::RepairUtf8(cell) == cell; });
    const std::string& letter = row.cells.back();
    if (!row.closed) {
      defects.Add(file, row.line, "a quote without its end");
    } else if (row.cells.size() != width || width < 4 || width > kLetters.size() + 2) {
      defects.Add(
          file, row.line,
          fmt::format("{} cells, where a question, its choices and a letter are due{}", row.cells.size(),
                      width < 4 ? "" : fmt::format(", {} as in the first row", width)));
    } else if (!utf8) {
      defects.Add(file, row.line, "not UTF-8");
    } else if (letter.size() != 1 || kLetters.substr(0, width - 2).find(letter) == std::string_view::npos) {
      defects.Add(file, row.line, fmt::format("the answer is \"{}\", not the letter of a choice", letter));
    } else {
      rows.push_back(std::move(row));
    }
  }
  if (rows.empty()) return {};
  for (std::size_t column = 1; column + 1 < width; ++column) {
    std::vector<std::string> cells;
    for (const CsvRow& row : rows) cells.push_back(row.cells[column]);
    AsPandasShows(cells);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].cells[column] = cells[i];
  }
  std::vector<MmluItem> items;
  for (CsvRow& row : rows) {
    items.push_back({row.cells.front(), {row.cells.begin() + 1, row.cells.end() - 1}, row.cells.back()});
  }
  return items;
}

std::string MmluExample(const MmluItem& item, bool with_answer) {
  std::string text = item.question;
  for (std::size_t i = 0; i < item.choices.size(); ++i) {
    text += fmt::format("\n{}. {}", kLetters[i], item.choices[i]);
  }
  text += "\nAnswer:";
  if (with_answer) text += fmt::format(" {}\n\n", item.answer);
  return text;
}

// Counts tokens of example blocks: by the table, by the server, or, where it cannot, as a quarter of the
// bytes.
struct ShotCounter {
  ShotCounter(const MmluOptions& options) : server(options.run.server) {
    if (!options.tiktoken.empty()) table.emplace(options.tiktoken);
  }
  int64_t operator()(const std::string& text) {
    if (table) {
      by = "cl100k_base";
      return table->Count(text);
    }
    const auto ids = server.Tokenize(text);
    by = ids ? "the server's /tokenize" : "a quarter of the bytes";
    return ids ? static_cast<int64_t>(ids->size()) : static_cast<int64_t>(text.size()) / 4;
  }

  CompletionServer server;
  std::optional<TiktokenCounter> table;
  std::string by = "none needed";
};

}  // namespace

std::vector<MmluSubject> ReadMmlu(const std::filesystem::path& data, int64_t count, Defects& defects) {
  constexpr std::string_view kEnding = "_test.csv";
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(data / "test", error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kEnding)) names.push_back(name.substr(0, name.size() - kEnding.size()));
  }
  if (names.empty()) {
    Fail(ErrorKind::kUsage, "{} has no files test/SUBJECT_test.csv; {}", data.string(), kLayout);
  }
  std::ranges::sort(names);
  names.resize(std::min(names.size(), static_cast<std::size_t>(count)));
  std::vector<MmluSubject> subjects;
  for (const std::string& name : names) {
    subjects.push_back({name, ReadItems(data / "dev" / (name + "_dev.csv"), defects),
                        ReadItems(data / "test" / (name + "_test.csv"), defects)});
  }
  return subjects;
}

std::string MmluExamples(const MmluSubject& subject, int64_t shots) {
  std::string words = subject.name;
  std::ranges::replace(words, '_', ' ');
  std::string text =
      fmt::format("The following are multiple choice questions (with answers) about {}.\n\n", words);
  for (int64_t i = 0; i < shots; ++i) text += MmluExample(subject.examples[i], true);
  return text;
}

std::string MmluQuestion(const MmluItem& item) { return MmluExample(item, false); }

std::string MmluExamplesThatFit(const MmluSubject& subject, int64_t shots,
                                const std::function<int64_t(const std::string&)>& tokens) {
  for (;; --shots) {
    std::string text = MmluExamples(subject, shots);
    // No tokenizer has tokens of less than a byte.
    if (shots == 0 || static_cast<int64_t>(text.size()) <= kMostShotTokens ||
        tokens(text) <= kMostShotTokens) {
      return text;
    }
  }
}

std::string MmluPrediction(std::string_view answer) { return std::string(FirstCharacter(Stripped(answer))); }

void RunMmlu(MmluOptions options) {
  Defects defects;
  const std::vector<MmluSubject> subjects = ReadMmlu(options.data, options.subjects, defects);
  defects.Judge(options.run.allow_malformed);
  for (const MmluSubject& subject : subjects) {
    if (static_cast<int64_t>(subject.examples.size()) >= options.shots && !subject.questions.empty())
      continue;
    Fail(ErrorKind::kUsage, "the subject {} has {} examples and {} questions: too few for --num-shots {}",
         subject.name, subject.examples.size(), subject.questions.size(), options.shots);
  }
  options.run.server = WithModel(options.run.server);
  ShotCounter counter(options);
  std::vector<Answer> answers;
  for (const MmluSubject& subject : subjects) {
    const std::string examples = MmluExamplesThatFit(
        subject, options.shots, [&counter](const std::string& text) { return counter(text); });
    for (const MmluItem& item : subject.questions) {
      Answer answer;
      answer.prompt = examples + MmluQuestion(item);
      answer.label = item.answer;
      answers.push_back(std::move(answer));
    }
  }
  const CrowdEnd end = RunCrowd("mmlu", options.run.server, static_cast<int64_t>(answers.size()),
                                options.run.parallel, [&](CompletionServer& server, int64_t i) {
                                  Answer& answer = answers[i];
                                  answer.completion =
                                      server.Complete({.prompt = answer.prompt, .max_tokens = 1});
                                  answer.prediction = MmluPrediction(answer.completion.text);
                                  answer.answered = true;
                                });

  std::string text;
  Json by_subject = Json::array();
  int64_t all_right = 0;
  int64_t all_answered = 0;
  std::size_t at = 0;
  for (const MmluSubject& subject : subjects) {
    int64_t right = 0;
    int64_t answered = 0;
    for (std::size_t i = 0; i < subject.questions.size(); ++i, ++at) {
      right += answers[at].right();
      answered += answers[at].answered;
    }
    all_right += right;
    all_answered += answered;
    const double accuracy = static_cast<double>(right) / static_cast<double>(std::max<int64_t>(1, answered));
    const std::string unasked = answered == static_cast<int64_t>(subject.questions.size())
                                    ? ""
                                    : fmt::format(" (of {} answered)", answered);
    text += fmt::format("subject: {}, #q:{}, acc: {:.3f}{}\n", subject.name, subject.questions.size(),
                        accuracy, unasked);
    by_subject.push_back({{"subject", subject.name},
                          {"questions", subject.questions.size()},
                          {"answered", answered},
                          {"right", right}});
  }
  const double average =
      static_cast<double>(all_right) / static_cast<double>(std::max<int64_t>(1, all_answered));
  text += fmt::format("Total latency: {:.3f}\nAverage accuracy: {:.3f}\n", end.seconds, average);
  text += ClosingLines(end, answers, defects.count());
  fmt::print("{}", text);
  Json report = ReportOf("mmlu", options.run, end, answers, defects.count());
  report["num_shots"] = options.shots;
  report["examples_counted_by"] = counter.by;
  report["subjects"] = by_subject;
  report["answers"] = AnswersOf(answers);
  const std::string line =
      fmt::format(R"({{"task": "mmlu", "backend": "sluice", "num_gpus": 1, "latency": {}, "accuracy": {}, )"
                  R"("num_requests": {}, "other": {{"nsub": {}, "parallel": {}}}}})",
                  FloatText(RoundedTo3(end.seconds)), FloatText(RoundedTo3(average)), answers.size(),
                  options.subjects, options.run.parallel);
  WriteResults(options.run, end, report, text, line, answers);
  ThrowUnlessComplete(end, options.run.output);
}

}  // namespace sluice::evaluate
