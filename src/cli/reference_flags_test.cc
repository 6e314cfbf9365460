#include "cli/reference_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "base/error.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The flags of a command line, and the notes on them.
struct Parsed {
  ReferenceFlags flags;
  std::vector<std::string> notes;
};

Parsed Parse(const std::vector<std::string>& words) {
  Parsed parsed;
  CLI::App app;
  AddReferenceFlags(app, parsed.flags);
  std::vector<std::string> reversed(words.rbegin(), words.rend());
  app.parse(reversed);
  parsed.notes = NotesOnFlags(app);
  return parsed;
}

// The sentence with which the flags are refused; empty when they are taken.
std::string Refusal(const std::vector<std::string>& words) {
  try {
    CheckReferenceFlags(Parse(words).flags);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "";
}

// A value of the row that is taken; empty for a switch.
std::string GoodValue(const FlagRow& row) {
  if (std::holds_alternative<bool ReferenceFlags::*>(row.field)) return "";
  return row.choices.empty() ? std::to_string(row.least) : row.choices.back();
}

TEST(ReferenceFlags, TheDocumentationHasTheTable) {
  std::ifstream file(std::string(SLUICE_SOURCE_DIR) + "/docs/launch-flags.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(page, HasSubstr(DocumentedFlags()));
}

TEST(ReferenceFlags, NothingGivenIsTakenAndNeedsNoNote) {
  EXPECT_EQ(Refusal({}), "");
  EXPECT_THAT(Parse({}).notes, ElementsAre());
}

TEST(ReferenceFlags, EveryRowTakesItsValuesAndNamesItselfWhenItRefusesOne) {
  for (const FlagRow& row : ReferenceFlagTable()) {
    SCOPED_TRACE(row.name);
    std::vector<std::string> words{row.name};
    const std::string value = GoodValue(row);
    if (!value.empty()) words.push_back(value);
    words.emplace_back("--enable-metrics");
    if (std::string_view(row.name) == "--enable-metrics") words.pop_back();
    EXPECT_EQ(Refusal(words), "");
    if (value.empty()) continue;
    words[1] = row.choices.empty() ? std::to_string(row.least - 1) : "nonsense";
    EXPECT_THAT(Refusal(words), HasSubstr(std::string(row.name) + " " + words[1] + " is"));
    EXPECT_THAT(Refusal(words), HasSubstr("use "));
  }
}

TEST(ReferenceFlags, WhatChangesNothingHereIsSaidIfItIsGiven) {
  const auto notes = Parse({"--enable-metrics", "--page-size", "64", "--cuda-graph-bs", "1", "2",
                            "--log-level", "debug", "--trust-remote-code"})
                         .notes;
  ASSERT_EQ(notes.size(), 3U);
  EXPECT_THAT(notes[0], HasSubstr("--trust-remote-code: nothing in a checkpoint is ever run"));
  EXPECT_EQ(notes[1], "--page-size 64: pages are always of 64 tokens");
  EXPECT_EQ(notes[2], "--cuda-graph-bs 1 2: CPU ranks have no graphs");
}

TEST(ReferenceFlags, ContradictionsAreRefused) {
  EXPECT_THAT(Refusal({"--collect-tokens-histogram"}), HasSubstr("--enable-metrics"));
  EXPECT_THAT(Refusal({"--metrics-compat", "sglang"}), HasSubstr("--enable-metrics"));
  EXPECT_THAT(Refusal({"--cuda-graph-bs", "1", "16", "--cuda-graph-max-bs", "8"}),
              HasSubstr("--cuda-graph-bs 16"));
  EXPECT_EQ(Refusal({"--cuda-graph-bs", "1", "8", "--cuda-graph-max-bs", "8"}), "");
}

}  // namespace
}  // namespace sluice::cli
