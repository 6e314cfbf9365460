#include "cli/eval_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/human_size.h"
#include "cli/parse_errors.h"
#include "cli/server_flags.h"
#include "evaluate/gsm8k.h"
#include "evaluate/logprobs.h"
#include "evaluate/mmlu.h"
#include "evaluate/needle.h"

namespace sluice::cli {
namespace {

constexpr int kInterrupted = 1;
constexpr int kBelow = 1;      // less was found than --require wants
constexpr int kDifferent = 1;  // --compare found a difference
constexpr int64_t kMostThreads = 4096;

// Flags of every evaluation that asks a server.
struct EvalFlags {
  ServerFlags server;
  std::string model;
  std::string backend = "openai";
};

void AddEvalFlags(CLI::App& command, EvalFlags& flags) {
  AddServerFlags(command, flags.server);
  command.add_option("--model", flags.model, "The model's name; absent: the first of /v1/models");
  command
      .add_option("--backend", flags.backend,
                  "openai: POST /v1/completions; sglang: POST /generate, as the reference's tools")
      ->capture_default_str()
      ->check(CLI::IsMember({"openai", "sglang"}));
}

evaluate::ServerOptions ServerOf(const client::ClientOptions& connection, const EvalFlags& flags) {
  evaluate::ServerOptions options;
  options.connection = connection;
  options.api = flags.backend == "sglang" ? evaluate::Api::kSglang : evaluate::Api::kOpenAi;
  options.model = flags.model;
  return options;
}

// Flags of the evaluations that ask questions from files.
struct QuestionFlags : EvalFlags {
  std::string data;
  int64_t parallel = 64;
  bool allow_malformed = false;
  std::string output;
  std::string result_file = "result.jsonl";
  std::string raw_result_file;
};

void AddQuestionFlags(CLI::App& command, QuestionFlags& flags, const char* data) {
  AddEvalFlags(command, flags);
  command.add_option("--data,--data-path,--data-dir", flags.data, data)->required();
  command.add_option("--parallel", flags.parallel, "Requests at a time")
      ->capture_default_str()
      ->check(Between(1, kMostThreads));
  command.add_flag("--allow-malformed", flags.allow_malformed, "Leave malformed lines of the data out");
  command.add_option("--output", flags.output, "OUTPUT.json and OUTPUT.txt are written; empty: neither")
      ->capture_default_str();
  command
      .add_option("--result-file", flags.result_file, "A line in the reference's form is appended to this")
      ->capture_default_str();
  command.add_option("--raw-result-file", flags.raw_result_file, "Every answer, in the reference's form");
}

evaluate::RunOptions RunOf(const QuestionFlags& flags) {
  evaluate::RunOptions options;
  options.server = ServerOf(ConnectionOf(flags.server), flags);
  options.parallel = flags.parallel;
  options.allow_malformed = flags.allow_malformed;
  options.output = flags.output;
  options.result_file = flags.result_file;
  options.raw_result_file = flags.raw_result_file;
  return options;
}

template <typename Run>
void EndingWell(Run run) {
  try {
    run();
  } catch (const evaluate::Interrupted& end) {
    fmt::print(stderr, "sluice: {}\n", end.what());
    throw CLI::RuntimeError(kInterrupted);
  }
}

struct Gsm8kFlags : QuestionFlags {
  evaluate::Gsm8kOptions options;
};

void AddGsm8k(CLI::App& group) {
  auto flags = std::make_shared<Gsm8kFlags>();
  flags->output = "gsm8k";
  CLI::App* command = group.add_subcommand("gsm8k", "Grade-school word problems, few-shot");
  AddQuestionFlags(*command, *flags, "The directory with GSM8K's test.jsonl");
  command->add_option("--num-shots", flags->options.shots, "Examples before each question")
      ->capture_default_str()
      ->check(AtLeast(0));
  command->add_option("--num-questions", flags->options.questions, "The first so many questions")
      ->capture_default_str()
      ->check(AtLeast(1));
  command->add_option("--max-new-tokens", flags->options.max_new_tokens, "Longest answer")
      ->capture_default_str()
      ->check(AtLeast(1));
  command->callback([flags] {
    EndingWell([&] {
      flags->options.data = flags->data;
      flags->options.run = RunOf(*flags);
      evaluate::RunGsm8k(flags->options);
    });
  });
}

struct MmluFlags : QuestionFlags {
  evaluate::MmluOptions options;
  std::string tiktoken;
};

void AddMmlu(CLI::App& group) {
  auto flags = std::make_shared<MmluFlags>();
  flags->output = "mmlu";
  CLI::App* command = group.add_subcommand("mmlu", "Multiple-choice questions on 57 subjects, few-shot");
  AddQuestionFlags(*command, *flags, "The directory with MMLU's dev/ and test/");
  command->add_option("--num-shots,--ntrain", flags->options.shots, "Examples before each question")
      ->capture_default_str()
      ->check(AtLeast(0));
  command->add_option("--nsub", flags->options.subjects, "The first so many subjects")
      ->capture_default_str()
      ->check(AtLeast(1));
  command->add_option("--tiktoken", flags->tiktoken,
                      "cl100k_base.tiktoken: examples beyond 1536 of its tokens are left out, as by the "
                      "reference; absent: beyond as many of the server's");
  command->callback([flags] {
    EndingWell([&] {
      flags->options.data = flags->data;
      flags->options.tiktoken = flags->tiktoken;
      flags->options.run = RunOf(*flags);
      evaluate::RunMmlu(flags->options);
    });
  });
}

struct NeedleFlags : EvalFlags {
  std::string style = "prose";
  std::string output = "needle";
  evaluate::NeedleOptions options;
};

void AddNeedle(CLI::App& group) {
  auto flags = std::make_shared<NeedleFlags>();
  evaluate::NeedleOptions& options = flags->options;
  CLI::App* command = group.add_subcommand("needle", "Facts hidden at every depth of a long context");
  AddEvalFlags(*command, *flags);
  command
      ->add_option(
          "--style", flags->style,
          "prose: sentences, for models that speak; recall: k17=v42, for `checkpoint make --kind recall`")
      ->capture_default_str()
      ->check(CLI::IsMember({"prose", "recall"}));
  command->add_option("--lengths", options.lengths, "Tokens of the prompts, one or several")
      ->capture_default_str()
      ->delimiter(',')
      ->transform(HumanCount())
      ->check(AtLeast(1));
  command->add_option("--depths", options.depths, "How many, evenly from 0 % to 100 %")
      ->capture_default_str()
      ->check(Between(1, evaluate::kMostNeedles));
  command->add_option("--trials", options.trials, "Haystacks of each length")
      ->capture_default_str()
      ->check(AtLeast(1));
  command->add_option("--leave-out", options.leave_out,
                      "Hide no needle at this depth (counted from 0): a control that is not to be found");
  command->add_option("--max-new-tokens", options.max_new_tokens, "Longest answer")
      ->capture_default_str()
      ->check(AtLeast(1));
  command->add_option("--parallel", options.parallel, "Requests at a time")
      ->capture_default_str()
      ->check(Between(1, kMostThreads));
  command->add_option("--seed", options.seed, "Of hay and needles")->check(Unsigned())->capture_default_str();
  command->add_option("--require", options.require, "End with code 1 when a smaller share is found")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--output", flags->output, "OUTPUT.json and OUTPUT.txt are written; empty: neither")
      ->capture_default_str();
  command->callback([flags] {
    const std::optional<int64_t> left_out = flags->options.leave_out;
    if (left_out && (*left_out < 0 || *left_out >= flags->options.depths)) {
      Fail(ErrorKind::kUsage, "--leave-out {} is none of the {} depths: use 0 to {}", *left_out,
           flags->options.depths, flags->options.depths - 1);
    }
    EndingWell([&] {
      flags->options.style =
          flags->style == "recall" ? evaluate::NeedleStyle::kRecall : evaluate::NeedleStyle::kProse;
      flags->options.output = flags->output;
      flags->options.server = ServerOf(ConnectionOf(flags->server), *flags);
      if (!evaluate::RunNeedle(flags->options)) throw CLI::RuntimeError(kBelow);
    });
  });
}

struct LogprobFlags : EvalFlags {
  std::vector<std::string> compare;
  std::string text_file;
  std::string output = "logprobs";
  int64_t tokens = 0;
};

evaluate::LogprobOptions LogprobOptionsOf(const LogprobFlags& flags) {
  evaluate::LogprobOptions options;
  options.text_file = flags.text_file;
  options.most_tokens = flags.tokens;
  options.output = flags.output;
  if (flags.compare.empty() || !flags.server.url.empty()) {
    options.sides.push_back({"", ServerOf(ConnectionOf(flags.server), flags)});
  }
  for (const std::string& side : flags.compare) {
    if (side.find("://") == std::string::npos) {
      options.sides.push_back({side, {}});
    } else {
      options.sides.push_back({"", ServerOf(ConnectionTo(side, flags.server), flags)});
    }
  }
  if (!flags.compare.empty() && options.sides.size() < 2) {
    Fail(ErrorKind::kUsage,
         "--compare {} has nothing to compare with: give two addresses or result files, or --url as well",
         flags.compare.front());
  }
  for (const evaluate::LogprobSide& side : options.sides) {
    if (side.file.empty() && flags.text_file.empty()) {
      Fail(ErrorKind::kUsage, "a server is asked about a text: give it with --text-file");
    }
  }
  return options;
}

void AddLogprobs(CLI::App& group) {
  auto flags = std::make_shared<LogprobFlags>();
  CLI::App* command = group.add_subcommand("logprobs", "Log-probabilities of a text, compared bit for bit");
  AddEvalFlags(*command, *flags);
  command->add_option("--text-file", flags->text_file, "The text");
  command
      ->add_option("--tokens", flags->tokens, "Its first so many tokens, by the server's /tokenize; 0: all")
      ->capture_default_str()
      ->transform(HumanCount())
      ->check(AtLeast(0));
  command->add_option("--compare", flags->compare,
                      "Servers' addresses (http://...) and result files (OUTPUT.json); the first, or that of "
                      "--url, is what the others are compared with");
  command->add_option("--output", flags->output, "OUTPUT.json and OUTPUT.txt are written; empty: neither")
      ->capture_default_str();
  command->callback([flags] {
    if (!evaluate::RunLogprobs(LogprobOptionsOf(*flags))) throw CLI::RuntimeError(kDifferent);
  });
}

}  // namespace

void AddEvalCommand(CLI::App& app) {
  CLI::App* group = app.add_subcommand("eval", "Accuracy, recall and log-probabilities of a server");
  group->require_subcommand(1);
  AddGsm8k(*group);
  AddMmlu(*group);
  AddNeedle(*group);
  AddLogprobs(*group);
}

}  // namespace sluice::cli
