#include "evaluate/gsm8k.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace sluice::evaluate {
namespace {

constexpr std::size_t kMostDigits = 4300;  // sys.int_info.default_max_str_digits
const std::vector<std::string> kStops = {"Question", "Assistant:", "<|separator|>"};

std::string Gsm8kExample(const Gsm8kItem& item, bool with_answer) {
  std::string text = "Question: " + item.question + "\nAnswer:";
  if (with_answer) text += " " + item.answer;
  return text;
}

struct Scores {
  double accuracy = 0;
  double invalid = 0;
  std::optional<int64_t> output_tokens;  // none: the server sends no usage
};

Scores ScoresOf(const std::vector<Answer>& answers) {
  int64_t answered = 0;
  int64_t right = 0;
  int64_t invalid = 0;
  Scores scores;
  scores.output_tokens = 0;
  for (const Answer& answer : answers) {
    if (!answer.answered) continue;
    ++answered;
    right += answer.right();
    invalid += answer.prediction.empty();
    if (!answer.completion.completion_tokens) {
      scores.output_tokens.reset();
    } else if (scores.output_tokens) {
      *scores.output_tokens += *answer.completion.completion_tokens;
    }
  }
  const double n = static_cast<double>(std::max<int64_t>(1, answered));
  scores.accuracy = static_cast<double>(right) / n;
  scores.invalid = static_cast<double>(invalid) / n;
  return scores;
}

}  // namespace

std::vector<Gsm8kItem> ReadGsm8k(const std::filesystem::path& data, Defects& defects) {
  const std::filesystem::path file = std::filesystem::is_regular_file(data) ? data : data / "test.jsonl";
  const std::string text =
      ReadFile(file,
               "--data is the directory with GSM8K's test.jsonl, which lies in grade_school_math/data of the "
               "repository openai/grade-school-math");
  std::vector<Gsm8kItem> items;
  ForEachLine(text, [&](std::string_view line, int64_t number) {
    if (line.starts_with('#')) return;
    const Json value = Json::parse(line, nullptr, false);
    if (value.is_discarded()) return defects.Add(file, number, "not JSON");
    for (const char* name : {"question", "answer"}) {
      if (!value.is_object() || !value.contains(name) || !value[name].is_string()) {
        return defects.Add(file, number, fmt::format("no text \"{}\"", name));
      }
    }
    Gsm8kItem item{value["question"].get<std::string>(), value["answer"].get<std::string>()};
    if (!Gsm8kValue(item.answer)) return defects.Add(file, number, "the answer has no number");
    items.push_back(std::move(item));
  });
  return items;
}

std::string Gsm8kPrompt(const std::vector<Gsm8kItem>& items, int64_t shots, int64_t index) {
  std::string prompt;
  for (int64_t i = 0; i < shots; ++i) prompt += Gsm8kExample(items[i], true) + "\n\n";
  return prompt + Gsm8kExample(items[index], false);
}

std::optional<std::string> Gsm8kValue(std::string_view answer) {
  std::string without_commas(answer);
  std::erase(without_commas, ',');
  std::string_view rest = without_commas;
  std::string run;      // of digits, the last one begun
  bool inside = false;  // the character before was one of them
  while (!rest.empty()) {
    const text::Utf8Unit unit = text::FirstUtf8Unit(rest);
    const std::string_view character = rest.substr(0, unit.length);
    const bool digit =
        unit.kind == text::Utf8Unit::Kind::kCharacter && IsDecimalDigit(text::CodePoint(character));
    if (digit && !inside) run.clear();
    if (digit) run += character;
    inside = digit;
    rest.remove_prefix(unit.length);
  }
  if (run.empty() || run.size() > kMostDigits) return std::nullopt;
  if (run.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  const std::size_t significant = run.find_first_not_of('0');
  if (significant == std::string::npos) return "0";
  if (significant > 0) return std::nullopt;
  return run;
}

void RunGsm8k(Gsm8kOptions options) {
  Defects defects;
  const std::vector<Gsm8kItem> items = ReadGsm8k(options.data, defects);
  defects.Judge(options.run.allow_malformed);
  const int64_t count = std::min<int64_t>(options.questions, static_cast<int64_t>(items.size()));
  if (count == 0 || options.shots > static_cast<int64_t>(items.size())) {
    Fail(ErrorKind::kUsage, "{} has {} questions: too few for {} examples and a question",
         options.data.string(), items.size(), options.shots);
  }
  std::vector<Answer> answers(count);
  for (int64_t i = 0; i < count; ++i) {
    answers[i].prompt = Gsm8kPrompt(items, options.shots, i);
    answers[i].label = *Gsm8kValue(items[i].answer);
  }
  options.run.server = WithModel(options.run.server);
  const CrowdEnd end = RunCrowd(
      "gsm8k", options.run.server, count, options.run.parallel, [&](CompletionServer& server, int64_t i) {
        Answer& answer = answers[i];
        answer.completion =
            server.Complete({.prompt = answer.prompt, .max_tokens = options.max_new_tokens, .stop = kStops});
        answer.prediction = Gsm8kValue(answer.completion.text).value_or("");
        answer.answered = true;
      });

  const Scores scores = ScoresOf(answers);
  std::string text = fmt::format("Accuracy: {:.3f}\nInvalid: {:.3f}\nLatency: {:.3f} s\n", scores.accuracy,
                                 scores.invalid, end.seconds);
  Json report = ReportOf("gsm8k", options.run, end, answers, defects.count());
  report["invalid"] = scores.invalid;
  report["num_shots"] = options.shots;
  report["max_new_tokens"] = options.max_new_tokens;
  if (scores.output_tokens) {
    const double rate = static_cast<double>(*scores.output_tokens) / end.seconds;
    text += fmt::format("Output throughput: {:.3f} token/s\n", rate);
    report["output_tokens"] = *scores.output_tokens;
    report["output_throughput"] = rate;
  } else {
    text += "Output throughput: unknown, the server sends no usage\n";
  }
  text += ClosingLines(end, answers, defects.count());
  report["answers"] = AnswersOf(answers);
  fmt::print("{}", text);
  const std::string line =
      fmt::format(R"({{"task": "gsm8k", "backend": "sluice", "num_gpus": 1, "latency": {}, "accuracy": {}, )"
                  R"("num_requests": {}, "other": {{"num_questions": {}, "parallel": {}}}}})",
                  FloatText(RoundedTo3(end.seconds)), FloatText(RoundedTo3(scores.accuracy)),
                  options.questions, options.questions, options.run.parallel);
  WriteResults(options.run, end, report, text, line, answers);
  ThrowUnlessComplete(end, options.run.output);
}

}  // namespace sluice::evaluate
