#include "cli/reference_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "base/error.h"
#include "cli/serve_command.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

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
  parsed.notes = NotesOnFlags(app, /*gpu=*/false);
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

std::string Documentation() {
  std::ifstream file(std::string(SLUICE_SOURCE_DIR) + "/docs/launch-flags.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

// tests/server/launch_flags_test.py holds the last two cells of a row to what the server does.
TEST(ReferenceFlags, TheDocumentationHasTheTable) {
  const std::string page = Documentation();
  for (const FlagRow& row : ReferenceFlagTable()) {
    const auto [begin, meaning] = Documented(row);
    const std::size_t at = page.find(begin);
    ASSERT_NE(at, std::string::npos) << begin;
    EXPECT_THAT(page.substr(at, page.find('\n', at) - at), HasSubstr(meaning));
  }
}

// One table: what the program takes, what --help shows and what the documentation has are the same flags.
TEST(ReferenceFlags, EveryFlagOfServeHasARowWithAllItsNames) {
  CLI::App app;
  const Origins origins;
  AddServeCommand(app, origins);
  const std::string page = Documentation();
  for (const CLI::Option* option : app.get_subcommand("serve")->get_options()) {
    std::string names;
    for (const std::string& name : option->get_lnames())
      names += (names.empty() ? "`--" : ", `--") + name + "`";
    EXPECT_THAT(page, HasSubstr("\n| " + names + " |"));
    EXPECT_FALSE(option->get_description().empty()) << names;
    EXPECT_NE(option->get_group(), "Options") << names;
  }
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
    if (std::string_view(row.name) == "--log-requests-level") words.emplace_back("--log-requests");
    EXPECT_EQ(Refusal(words).empty(), row.effect != FlagEffect::kNotBuilt);
    if (value.empty()) continue;
    words[1] = row.choices.empty() ? std::to_string(row.least - 1) : "nonsense";
    EXPECT_THAT(Refusal(words), HasSubstr(std::string(row.name) + " " + words[1] + " is"));
    EXPECT_THAT(Refusal(words), HasSubstr("use "));
  }
}

TEST(ReferenceFlags, WhatChangesNothingHereIsSaidIfItIsGiven) {
  const auto notes = Parse({"--collect-tokens-histogram", "--page-size", "64", "--cuda-graph-bs", "1", "2",
                            "--log-level", "debug", "--trust-remote-code"})
                         .notes;
  ASSERT_EQ(notes.size(), 3U);
  EXPECT_THAT(notes[0], HasSubstr("--trust-remote-code: nothing in a checkpoint is ever run"));
  EXPECT_EQ(notes[1], "--page-size 64: pages are always of 64 tokens");
  EXPECT_THAT(notes[2], StartsWith("--cuda-graph-bs 1 2: CPU ranks have no graphs"));
}

TEST(ReferenceFlags, ContradictionsAreRefused) {
  for (const char* flag : {"--collect-tokens-histogram", "--enable-metrics"}) {
    EXPECT_THAT(Refusal({flag, "--disable-metrics"}),
                HasSubstr(std::string(flag) + " and --disable-metrics"));
  }
  EXPECT_THAT(Refusal({"--metrics-compat", "vllm", "--disable-metrics"}), HasSubstr("--disable-metrics"));
  EXPECT_THAT(Refusal({"--log-requests-level", "1"}), HasSubstr("give --log-requests"));
  EXPECT_THAT(Refusal({"--cuda-graph-bs", "1", "16", "--cuda-graph-max-bs", "8"}),
              HasSubstr("--cuda-graph-bs 16"));
  EXPECT_EQ(Refusal({"--cuda-graph-bs", "1", "8", "--cuda-graph-max-bs", "8"}), "");
  EXPECT_THAT(Refusal({"--cuda-graph-bs", "1", "--disable-cuda-graph"}),
              HasSubstr("--disable-cuda-graph and"));
}

TEST(ReferenceFlags, WhatIsNotBuiltIsRefusedWithWhatToDo) {
  EXPECT_EQ(Refusal({"--enable-dynamic-chunking"}),
            "--enable-dynamic-chunking is not built: chunks all have the rows of --chunked-prefill-size; "
            "leave it out");
  EXPECT_EQ(Refusal({"--speculative-algorithm", "EAGLE"}),
            "--speculative-algorithm EAGLE is not built: nothing is drafted here; leave it out, or use "
            "--load-mtp alone, which loads the multi-token-prediction layer and drafts nothing");
  EXPECT_THAT(Refusal({"--speculative-num-steps", "3"}), StartsWith("--speculative-num-steps 3 is not"));
}

TEST(ReferenceFlags, GraphsAreOfTheRowsThatAreGivenOrOfAllUpToTheMost) {
  ReferenceFlags flags;
  EXPECT_EQ(GraphRows(flags).size(), 32U);
  EXPECT_EQ(GraphRows(flags).back(), 32);
  flags.cuda_graph_max_bs = 4;
  EXPECT_THAT(GraphRows(flags), ElementsAre(1, 2, 3, 4));
  flags.cuda_graph_max_bs = 50;
  EXPECT_EQ(GraphRows(flags).size(), 34U);
  EXPECT_EQ(GraphRows(flags).back(), 48);
  flags.cuda_graph_bs = {1, 8};
  EXPECT_THAT(GraphRows(flags), ElementsAre(1, 8));
  flags.disable_cuda_graph = true;
  EXPECT_THAT(GraphRows(flags), ElementsAre());
}

TEST(ReferenceFlags, VariablesOfTheLaunchScriptsAreNamedWhenTheyAreSet) {
  EXPECT_THAT(NotesOnVariables({{"PATH", "x"}}), ElementsAre());
  EXPECT_THAT(NotesOnVariables({{"SGLANG_NSA_FUSE_TOPK", "0"}}),
              ElementsAre(HasSubstr("SGLANG_NSA_FUSE_TOPK=0: ")));
}

}  // namespace
}  // namespace sluice::cli
