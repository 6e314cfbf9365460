#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "evaluate/data_files.h"
#include "evaluate/report.h"

namespace sluice::evaluate {

// Multiple-choice questions on many subjects, few-shot, as the reference's mmlu tool asks and scores them.

struct MmluOptions {
  RunOptions run;
  std::filesystem::path data;      // with dev/SUBJECT_dev.csv and test/SUBJECT_test.csv
  std::filesystem::path tiktoken;  // cl100k_base.tiktoken; empty: examples are counted by the server
  int64_t shots = 5;
  int64_t subjects = 60;  // the first so many
};

struct MmluItem {
  std::string question;
  std::vector<std::string> choices;
  std::string answer;  // a letter
};

struct MmluSubject {
  std::string name;  // abstract_algebra
  std::vector<MmluItem> examples;
  std::vector<MmluItem> questions;
};

// The first `count` subjects of which test/ has a file, in the order of their names. Rows that are not a
// question, choices and the letter of one of them, alike in number over the file, go to `defects`.
std::vector<MmluSubject> ReadMmlu(const std::filesystem::path& data, int64_t count, Defects& defects);

// "The following are multiple choice questions (with answers) about SUBJECT." and the first `shots` examples
// with their answers.
std::string MmluExamples(const MmluSubject& subject, int64_t shots);
// The question with its choices and "Answer:".
std::string MmluQuestion(const MmluItem& item);

// MmluExamples with as many of `shots` examples as have at most 1536 tokens by `tokens`, which is not asked
// about texts of at most 1536 bytes.
std::string MmluExamplesThatFit(const MmluSubject& subject, int64_t shots,
                                const std::function<int64_t(const std::string&)>& tokens);

// The first character of an answer without the white space around it; empty when there is none.
std::string MmluPrediction(std::string_view answer);

// As RunGsm8k, with a line per subject and the average over all questions.
void RunMmlu(MmluOptions options);

}  // namespace sluice::evaluate
