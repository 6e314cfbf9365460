#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evaluate/data_files.h"
#include "evaluate/report.h"

namespace sluice::evaluate {

// Grade-school word problems, few-shot, as the reference's gsm8k tool asks and scores them.

struct Gsm8kOptions {
  RunOptions run;
  std::filesystem::path data;  // the directory of test.jsonl, or that file
  int64_t shots = 5;
  int64_t questions = 200;
  int64_t max_new_tokens = 512;
};

struct Gsm8kItem {
  std::string question;
  std::string answer;
};

// The items of test.jsonl, a JSON object with `question` and `answer` a line; lines that begin with # are
// comments. A line that is something else, or whose answer has no number, goes to `defects`.
std::vector<Gsm8kItem> ReadGsm8k(const std::filesystem::path& data, Defects& defects);

// "Question: q\nAnswer:" of item `index`, behind the first `shots` items with their answers: the reference
// takes its examples from the questions themselves.
std::string Gsm8kPrompt(const std::vector<Gsm8kItem>& items, int64_t shots, int64_t index);

// The last run of decimal digits once commas are gone, as the number that Python's literal_eval makes of it,
// in decimal without leading zeros. nullopt (the reference's INVALID) without digits, and for what is no
// literal: leading zeros before another digit, digits of other scripts, more than 4,300 digits. Signs and
// decimal points are not looked at.
std::optional<std::string> Gsm8kValue(std::string_view answer);

// Asks, prints the reference's four lines and the interval, writes the results. Throws Error as
// documented in report.h when the server stops answering, Error(kUsage) for bad data.
void RunGsm8k(Gsm8kOptions options);

}  // namespace sluice::evaluate
