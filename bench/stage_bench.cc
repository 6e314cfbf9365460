// How long one rank of a large layout computes at each chunk of a long prompt, and what of that its ops take.
//
//   stage_bench --model random:v3.2 --pp-size 2 --stage 0 --lanes 8 --chunk 8192 --prompt 48500 --json FILE
//
// The chunks of a prompt follow one another over a cache that they fill; then the next round. Device time is
// between events on the rank's stream around its layers, copies that stand in for the lanes' traffic
// included; the median over the rounds after the first. Then each chunk once more with every op alone on the
// device, its kernels back to back, and once with events around each op where it runs (timed_ops.h). Ops that
// are timed alone have rests between them, which lift the clock; in their place they have the stage's clock,
// and beside some of them copies run.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/checked.h"
#include "gpu_main.h"
#include "gpu_report.h"
#include "gpu_timing.h"
#include "median.h"
#include "rank_stage.h"

namespace sluice::bench {
namespace {

struct Options : StageOptions {
  int rounds = 3;
  bool plain = false;
  std::string json;
};

// What an op is, for shares of the stage.
enum class Kind { kLinear, kAttention, kIndexer, kElementwise, kMoving };
Kind KindOf(std::string_view op) {
  if (op.starts_with("Linear") || op.starts_with("GroupedLinear") || op == "AbsorbQuery" || op == "ValueUp") {
    return Kind::kLinear;
  }
  if (op == "SparseAttention") return Kind::kAttention;
  if (op == "SelectKeys") return Kind::kIndexer;
  for (const std::string_view moving :
       {"CopyRows", "TakeRows", "WriteLatents", "WriteIndexKeys", "Route", "PlanExperts", "SumExperts",
        "JoinSubtrees", "SumTerms", "JoinNodes"}) {
    if (op == moving) return Kind::kMoving;
  }
  return Kind::kElementwise;
}

struct OpTimes {
  int64_t calls = 0;
  double isolated_ms = 0.0;
  double in_place_ms = 0.0;
};

struct Profile {
  std::map<std::string, OpTimes> ops;
  std::map<Kind, double> isolated_ms;            // by kind
  double sum_ms = 0.0;                           // of isolated ops
  double exchange_ms = 0.0;                      // with nothing else on the device
  double in_place_ms = 0.0;                      // the layers, with events around each op
  double gaps_ms = 0.0;                          // between ops
  double exchange_gaps_ms = 0.0;                 // of those, where the lanes exchange rows
  std::map<std::string, double> gaps_before_ms;  // of those, by the op behind the gap
};

Profile ProfileOf(RankStage& stage, int64_t first, int64_t rows) {
  Profile profile;
  const RankStage::Pass isolated = stage.Compute(first, rows, Timing::kIsolated);
  for (const TimedCall& call : isolated.calls) {
    OpTimes& op = profile.ops[call.op];
    ++op.calls;
    op.isolated_ms += call.ms;
    profile.isolated_ms[KindOf(call.op)] += call.ms;
    profile.sum_ms += call.ms;
  }
  profile.exchange_ms = isolated.exchange_ms;
  const RankStage::Pass in_place = stage.Compute(first, rows, Timing::kInPlace);
  for (const TimedCall& call : in_place.calls) {
    profile.ops[call.op].in_place_ms += call.ms;
    profile.gaps_ms += call.gap_ms;
    if (!call.after_exchange) continue;
    profile.exchange_gaps_ms += call.gap_ms;
    profile.gaps_before_ms[call.op] += call.gap_ms;
  }
  profile.in_place_ms = in_place.device_ms;
  return profile;
}

nlohmann::json JsonOf(const Profile& profile, double device_ms) {
  nlohmann::json ops;
  for (const auto& [name, op] : profile.ops) {
    ops[name] = {{"calls", op.calls}, {"isolated_ms", op.isolated_ms}, {"in_place_ms", op.in_place_ms}};
  }
  // At the clock that the stage itself leaves the device.
  const double in_place_ops_ms = profile.in_place_ms - profile.gaps_ms;
  const auto share = [&](Kind kind) {
    const auto found = profile.isolated_ms.find(kind);
    return found == profile.isolated_ms.end() ? 0.0 : found->second / device_ms;
  };
  return {{"isolated_ms", profile.sum_ms},
          {"exchange_ms", profile.exchange_ms},
          {"engine_over_isolated", device_ms / (profile.sum_ms + profile.exchange_ms)},
          {"share",
           {{"linears", share(Kind::kLinear)},
            {"attention", share(Kind::kAttention)},
            {"indexer", share(Kind::kIndexer)},
            {"elementwise_and_quantisation", share(Kind::kElementwise)},
            {"rows_moved_routed_summed", share(Kind::kMoving)}}},
          {"in_place",
           {{"device_ms", profile.in_place_ms},
            {"ops_ms", in_place_ops_ms},
            {"device_over_ops", profile.in_place_ms / in_place_ops_ms},
            {"gaps_ms", profile.gaps_ms},
            {"gaps_at_exchanges_ms", profile.exchange_gaps_ms},
            {"gaps_at_exchanges_by_next_op_ms", profile.gaps_before_ms}}},
          {"ops", ops}};
}

void PrintOps(int64_t prefix, const nlohmann::json& chunk) {
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [name, op] : chunk["ops"].items())
    order.emplace_back(-op["isolated_ms"].get<double>(), name);
  std::ranges::sort(order);
  fmt::print("\nOps behind {} rows, all layers together\n\n", prefix);
  fmt::print(
      "| op | calls | isolated, ms | % of the stage | in the run, ms |\n"
      "| --- | ---: | ---: | ---: | ---: |\n");
  for (const auto& [negative, name] : order) {
    const auto& op = chunk["ops"][name];
    // Quantisation has no events of its own in the run: it is in its linears' times.
    fmt::print("| {} | {} | {:.2f} | {:.1f} | {} |\n", name, op["calls"].get<int64_t>(), -negative,
               -100.0 * negative / chunk["device_ms"].get<double>(),
               op["in_place_ms"] > 0.0 ? fmt::format("{:.2f}", op["in_place_ms"].get<double>()) : "");
  }
}

void Run(const Options& options) {
  if (options.stage >= options.stages || options.lane >= options.lanes) {
    Fail(ErrorKind::kUsage, "there is no stage {} of {} or no lane {} of {}", options.stage, options.stages,
         options.lane, options.lanes);
  }
  RankStage stage(options);
  Sensors sensors;
  const std::string gpu = GpuName();
  nlohmann::json report = {{"gpu", gpu},
                           {"driver", sensors.DriverVersion()},
                           {"model", options.model},
                           {"stages", options.stages},
                           {"stage", options.stage},
                           {"layers", {stage.layers().begin, stage.layers().end}},
                           {"lanes", options.lanes},
                           {"lane", options.lane},
                           {"chunk", options.chunk},
                           {"prompt", options.prompt},
                           {"cache", options.cache},
                           {"rounds", options.rounds},
                           {"chunks", nlohmann::json::array()}};
  const int64_t chunks = CeilDiv(options.prompt, options.chunk);
  const auto rows_of = [&](int64_t chunk) {
    return std::min(options.chunk, options.prompt - chunk * options.chunk);
  };
  std::vector<std::vector<RankStage::Pass>> passes(static_cast<size_t>(chunks));
  for (int round = 0; round < options.rounds; ++round) {
    if (round == 1) sensors.Take();
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      passes[chunk].push_back(stage.Compute(chunk * options.chunk, rows_of(chunk)));
    }
  }
  const Sensors::Reading reading = sensors.Take();
  report["mhz"] = reading.lowest_mhz;
  report["watts"] = reading.most_watts;
  fmt::print(
      "{}, driver {}, {}: layers {} to {}, lane {} of {}, chunks of {}; {} MHz at least, {:.0f} W at "
      "most\n\n",
      gpu, sensors.DriverVersion(), options.model, stage.layers().begin, stage.layers().end, options.lane,
      options.lanes, options.chunk, reading.lowest_mhz, reading.most_watts);
  fmt::print(
      "| prefix | rows | device, ms | host, ms | isolated ops, ms | exchanges, ms | device / both | "
      "with events: device / ops | elementwise, "
      "quantisation % | rows moved, routed, summed % | gaps at exchanges, ms | other gaps, ms | "
      "from other lanes, MB |\n"
      "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  double all_ms = 0.0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    std::vector<double> device, host;
    for (size_t round = options.rounds > 1 ? 1 : 0; round < passes[chunk].size(); ++round) {
      device.push_back(passes[chunk][round].device_ms);
      host.push_back(passes[chunk][round].host_ms);
    }
    const int64_t prefix = chunk * options.chunk;
    const double device_ms = Median(device);
    all_ms += device_ms;
    const Profile profile = options.plain ? Profile{} : ProfileOf(stage, prefix, rows_of(chunk));
    nlohmann::json at = JsonOf(profile, device_ms);
    at["prefix"] = prefix;
    at["rows"] = rows_of(chunk);
    at["device_ms"] = device_ms;
    at["device_ms_of_rounds"] = device;
    at["host_ms"] = Median(host);
    at["bytes_received"] = passes[chunk].back().bytes_received;
    fmt::print(
        "| {} | {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.3f} | {:.3f} | {:.1f} | {:.1f} | {:.2f} | "
        "{:.2f} | {:.1f} |\n",
        prefix, rows_of(chunk), device_ms, Median(host), profile.sum_ms, profile.exchange_ms,
        at["engine_over_isolated"].get<double>(), at["in_place"]["device_over_ops"].get<double>(),
        100.0 * at["share"]["elementwise_and_quantisation"].get<double>(),
        100.0 * at["share"]["rows_moved_routed_summed"].get<double>(), profile.exchange_gaps_ms,
        profile.gaps_ms - profile.exchange_gaps_ms,
        static_cast<double>(passes[chunk].back().bytes_received) / 1e6);
    report["chunks"].push_back(std::move(at));
  }
  fmt::print("\nAll chunks together: {:.1f} ms\n", all_ms);
  report["all_ms"] = all_ms;
  if (!options.plain) {
    PrintOps(0, report["chunks"].front());
    if (chunks > 1) PrintOps((chunks - 1) * options.chunk, report["chunks"].back());
  }
  WriteFigures(options.json, report);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Options options;
  CLI::App app("Device time of one rank's stage, chunk by chunk of a long prompt, on GPU 0.");
  app.add_option("--model", options.model, "random:...");
  app.add_option("--pp-size", options.stages, "Stages of the layout.")->check(CLI::PositiveNumber);
  app.add_option("--stage", options.stage, "This rank's stage.")->check(CLI::NonNegativeNumber);
  app.add_option("--lanes", options.lanes, "Lanes of the stage (tp = cp = ep).")->check(CLI::PositiveNumber);
  app.add_option("--lane", options.lane, "This rank's lane.")->check(CLI::NonNegativeNumber);
  app.add_option("--chunk", options.chunk, "Rows of a step, over all lanes.")->check(CLI::PositiveNumber);
  app.add_option("--prompt", options.prompt, "Tokens of the prompt.")->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds, "Times that the prompt is computed.")
      ->check(CLI::PositiveNumber);
  app.add_option("--kv-cache-dtype", options.cache, "")->check(CLI::IsMember({"bf16", "fp8_e4m3"}));
  app.add_flag("--plain", options.plain, "The stage alone, no single ops.");
  sluice::bench::AddJsonFlag(app, options.json);
  CLI11_PARSE(app, argc, argv);
  return sluice::bench::Main("stage_bench", [&] { sluice::bench::Run(options); });
}
