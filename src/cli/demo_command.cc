#include "cli/demo_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/recall_weights.h"
#include "cli/layout_flags.h"
#include "cli/parse_errors.h"
#include "cli/pipeline_view.h"
#include "cli/serve_command.h"
#include "engine/offline.h"
#include "serve/server.h"
#include "tensor/counter_random.h"
#include "text/tokenizer.h"
#include "trace/strip.h"

namespace sluice::cli {
namespace {

constexpr int64_t kPromptTokens = 4000;
constexpr int kStripWidth = 72;
constexpr int kRanks = 4;  // of the layouts with 2 stages x 2 lanes

struct DemoFlags {
  std::string directory = "build/demo";
  bool once = false;
  bool break_a_rank = false;
  int perturb_rank = -1;
  int port = 30000;
};

struct Layout {
  const char* name;
  int64_t pp, cp;
  const char* mode;
  int64_t chunk;
};

struct Outcome {
  engine::OfflineResult result;
  std::vector<trace::Lane> lanes;
  trace::BusyShares busy;
};

// A checkpoint of preset tiny in F32, random or one that recalls. It is made beside its place and moved there
// when it is whole; what lies in that place and is no checkpoint is somebody else's and stays.
std::shared_ptr<checkpoint::Checkpoint> DemoCheckpoint(const std::filesystem::path& directory, bool recall) {
  if (!std::filesystem::exists(directory / "config.json")) {
    if (std::filesystem::exists(directory) && !std::filesystem::is_empty(directory)) {
      Fail(ErrorKind::kUsage,
           "{} is there and is no checkpoint: remove it, or name another place with --directory",
           directory.string());
    }
    const std::filesystem::path partial = directory.string() + ".partial";
    std::filesystem::remove_all(partial);
    checkpoint::MakeOptions options;
    options.preset = "tiny";
    options.format = checkpoint::WeightFormat::kF32;
    checkpoint::MakeCheckpoint(
        partial, options, recall ? checkpoint::PlanRecall(options) : checkpoint::PlanCheckpoint(options), {});
    std::filesystem::remove(directory);
    std::filesystem::rename(partial, directory);
  }
  return checkpoint::Checkpoint::Open(directory);
}

std::vector<int32_t> DemoPrompt(int64_t vocab_size) {
  std::vector<int32_t> prompt;
  prompt.reserve(kPromptTokens);
  for (int64_t i = 0; i < kPromptTokens; ++i) {
    // The first ids are control tokens of the chat format.
    const uint64_t hash = SplitMix64(0x5109eULL + static_cast<uint64_t>(i));
    prompt.push_back(static_cast<int32_t>(16 + hash % static_cast<uint64_t>(vocab_size - 16)));
  }
  return prompt;
}

uint64_t Fingerprint(const std::vector<float>& logits) {
  uint64_t hash = 14695981039346656037ULL;  // FNV-1a over the raw bits
  for (const float value : logits) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, 4);
    hash = (hash ^ bits) * 1099511628211ULL;
  }
  return hash;
}

engine::JobSettings SettingsOfDemo(const Layout& layout, const std::filesystem::path& model,
                                   const checkpoint::Checkpoint& checkpoint) {
  LayoutFlags flags;
  flags.model_path = model;
  flags.pp = layout.pp;
  flags.tp = layout.cp;
  flags.cp = layout.cp;
  flags.cp_mode = layout.mode;
  flags.context_length = 8192;
  return SettingsOf(flags, checkpoint);
}

Outcome RunLayout(const Layout& layout, const DemoFlags& flags, const std::filesystem::path& model,
                  std::shared_ptr<checkpoint::Checkpoint> checkpoint) {
  const engine::JobSettings settings = SettingsOfDemo(layout, model, *checkpoint);
  engine::RankProbes probes;
  if (flags.perturb_rank >= 0 && settings.grid.world() > flags.perturb_rank) {
    probes.after_load = [&](int rank, model::StageWeights& weights) {
      if (rank == flags.perturb_rank)
        weights.layers.front().input_layernorm.view().At<float>(0, 0) *= 1.0001F;
    };
  }
  const std::vector<int32_t> prompt = DemoPrompt(checkpoint->config().vocab_size);
  engine::OfflineRunner runner(settings, layout.chunk, 4,
                               engine::StartThreadRanks(settings, std::move(checkpoint), probes));
  Outcome outcome;
  outcome.result = runner.Run({{prompt, 1, {}, true}}).front();
  outcome.lanes = LanesOf(runner.job(), settings.grid);
  outcome.busy = BusyOf(runner.job(), settings.grid);
  fmt::print("  {:<34} TTFT {:6.2f} s  {:7.0f} tokens/s  logits {:016x}\n", layout.name,
             outcome.result.first_token_seconds,
             static_cast<double>(kPromptTokens) / outcome.result.first_token_seconds,
             Fingerprint(outcome.result.logits));
  std::fflush(stdout);
  return outcome;
}

void ShowPipeline(const std::vector<trace::Lane>& lanes, const trace::BusyShares& busy,
                  const std::filesystem::path& svg_path) {
  for (const std::string& line : trace::RenderStrip(lanes, kStripWidth)) fmt::print("  {}\n", line);
  std::ofstream(svg_path) << trace::RenderSvg(lanes, "A 4,000-token prompt through 2 stages x 2 lanes");
  fmt::print("  the ranks' time: compute {:.1f} %, wait {:.1f} %, hop {:.1f} %, idle {:.1f} %\n",
             100.0 * busy.all.compute, 100.0 * busy.all.wait, 100.0 * busy.all.hop, 100.0 * busy.all.idle);
  fmt::print("  bubble {:.1f} % measured; (S-1) x longest chunk / makespan = {:.1f} %. Picture: {}\n",
             100.0 * busy.all.bubble(), 100.0 * trace::PipelineFloor(lanes), svg_path.string());
}

// A prompt of kPromptTokens tokens with one note a third of the way in, and the note's key at its end.
std::vector<int32_t> NeedlePrompt(const text::Tokenizer& tokenizer, const std::string& key,
                                  const std::string& value) {
  const std::vector<int32_t> hay =
      tokenizer.Encode("A long prompt is cut into chunks and dealt over the ranks. ");
  const std::vector<int32_t> note = tokenizer.Encode(key + value);
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i + 1 < kPromptTokens; ++i) prompt.push_back(hay[i % std::ssize(hay)]);
  std::ranges::copy(note, prompt.begin() + kPromptTokens / 3);
  prompt.push_back(note.front());
  return prompt;
}

// Asks a model that recalls (checkpoint/recall_weights.h) for what stands in the middle of a prompt; whether
// every layout finds it.
bool FindNeedle(const std::vector<Layout>& layouts, const std::filesystem::path& model) {
  const std::string key = "k17=";
  const std::string value = "v42";
  const std::shared_ptr<checkpoint::Checkpoint> checkpoint = DemoCheckpoint(model, true);
  const auto tokenizer = text::Tokenizer::Load(model / "tokenizer.json");
  const std::vector<int32_t> prompt = NeedlePrompt(*tokenizer, key, value);
  fmt::print(
      "A second checkpoint, {}, is made to recall what stood after a word. {} tokens with \"{}{}\" a third "
      "of "
      "the way in; they end with \"{}\":\n",
      model.string(), prompt.size(), key, value, key);
  bool found = true;
  for (const Layout& layout : layouts) {
    const engine::JobSettings settings = SettingsOfDemo(layout, model, *checkpoint);
    engine::OfflineRunner runner(settings, layout.chunk, 4,
                                 engine::StartThreadRanks(settings, checkpoint, {}));
    const std::string answer = tokenizer->Decode(runner.Run({{prompt, 1, {}, false}}).front().tokens);
    fmt::print("  {:<34} answers {}\n", layout.name, answer);
    std::fflush(stdout);
    found = found && answer == value;
  }
  fmt::print("found in every layout: {}\n", found ? "yes" : "no");
  return found;
}

// Stops one rank process in mid-prefill; the watchdog must name it.
[[noreturn]] void BreakARank(const std::filesystem::path& model, checkpoint::Checkpoint& checkpoint) {
  const Layout layout{"", 2, 2, "interleave", 256};
  engine::JobSettings settings = SettingsOfDemo(layout, model, checkpoint);
  settings.wait_limit = std::chrono::seconds(2);
  engine::ProcessPlan plan = PlanOf({});
  auto ranks = engine::StartProcessRanks(settings, checkpoint.fingerprint(), plan);
  const int victim_pid = ranks->ProcessId(2);
  engine::OfflineRunner runner(settings, layout.chunk, 4, std::move(ranks));
  fmt::print("Stopping rank 2 (SIGSTOP) in the middle of the prompt; the watchdog's limit is 2 s ...\n");
  std::fflush(stdout);
  std::thread saboteur([&] {
    while (runner.job().States()[2].heartbeat.rows_computed == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    kill(victim_pid, SIGSTOP);
  });
  std::string sentence = "the prompt was done before the rank was stopped";
  try {
    runner.Run({{DemoPrompt(checkpoint.config().vocab_size), 1, {}, false}});
  } catch (const Error& error) {
    sentence = error.what();
  }
  saboteur.join();
  Fail(ErrorKind::kRankLost, "{}", sentence);
}

// Fails as the server at the end would when its port is taken, before anything is made or computed.
void CheckPort(int port) {
  serve::ServerOptions options;
  options.port = static_cast<uint16_t>(port);
  serve::Server server(options);
  server.Start();
  server.Stop();
}

void Demo(const DemoFlags& flags) {
  if (!flags.once && !flags.break_a_rank) CheckPort(flags.port);
  const std::filesystem::path model = std::filesystem::path(flags.directory) / "checkpoint";
  auto checkpoint = DemoCheckpoint(model, false);
  const auto& config = checkpoint->config();
  fmt::print("A random {}-layer DeepSeek-V3.2 checkpoint: {}\n", config.num_hidden_layers, model.string());
  fmt::print("Its weights are random, so it speaks nonsense. What does mean something:\n");
  if (flags.break_a_rank) BreakARank(model, *checkpoint);

  const unsigned cores = std::thread::hardware_concurrency();
  fmt::print("the same {}-token prompt through three layouts, all logits compared bit for bit.\n",
             kPromptTokens);
  if (cores < 4)
    fmt::print("{} cores run up to 4 ranks here: expect no speed-up, only the same answer.\n", cores);
  const Layout one{"1 rank, whole prompt", 1, 1, "interleave", 4096};
  const Layout round_robin{"2 stages x 2 lanes, round-robin 512", 2, 2, "interleave", 512};
  const Layout zigzag{"2 stages x 2 lanes, zigzag 320", 2, 2, "zigzag", 320};
  const Outcome alone = RunLayout(one, {}, model, checkpoint);
  const Outcome first = RunLayout(round_robin, flags, model, checkpoint);
  const Outcome second = RunLayout(zigzag, flags, model, checkpoint);
  const auto same_bits = [](const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  };
  const bool same = same_bits(alone.result.logits, first.result.logits) &&
                    same_bits(alone.result.logits, second.result.logits);
  fmt::print("same answer, bit for bit: {}\n", same ? "yes" : "no");
  ShowPipeline(first.lanes, first.busy, std::filesystem::path(flags.directory) / "pipeline.svg");
  std::fflush(stdout);
  const std::filesystem::path recall = std::filesystem::path(flags.directory) / "recall";
  const bool found = FindNeedle({one, round_robin, zigzag}, recall);
  if (!same || !found) throw CLI::RuntimeError(1);
  if (flags.once) return;

  fmt::print("Serving that one at pp 2 x cp 2; Ctrl-C ends. Try:\n");
  fmt::print(
      "  curl http://127.0.0.1:{}/v1/completions -H 'Content-Type: application/json' -d "
      "'{{\"model\": \"demo\", \"prompt\": \"k17=v42. Some text. k17=\", \"max_tokens\": 16}}'\n",
      flags.port);
  std::fflush(stdout);
  ServeDemo(recall, flags.port);
}

}  // namespace

void AddDemoCommand(CLI::App& app) {
  auto flags = std::make_shared<DemoFlags>();
  CLI::App* command = app.add_subcommand("demo", "One prompt, three layouts, one answer");
  command->add_option("--directory", flags->directory, "Where the two checkpoints and the picture go")
      ->capture_default_str();
  command->add_flag("--once", flags->once, "End after the comparison instead of serving");
  command->add_flag("--break", flags->break_a_rank, "Stop a rank in mid-prefill and see it named");
  command
      ->add_option("--perturb-rank", flags->perturb_rank,
                   "Change one weight on this rank of the 2x2 layouts: the answers must differ")
      ->check(Between(0, kRanks - 1));
  command->add_option("--port", flags->port, "Of the server that is left up; 0 for any free one")
      ->capture_default_str()
      ->check(Between(0, 65535));
  command->callback([flags] { Demo(*flags); });
}

}  // namespace sluice::cli
