#include <fmt/format.h>

#include "base/clock.h"
#include "serve/errors.h"
#include "serve/json_response.h"
#include "serve/prepare.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {

Json ModelEntry(const Service& service) {
  return {{"id", service.info.served_model_name}, {"object", "model"},
          {"created", service.started},           {"owned_by", "sluice"},
          {"root", service.info.model_path},      {"max_model_len", service.engine.info().context_length}};
}

Json StageEntry(size_t stage, const trace::Shares& shares) {
  return {{"stage", stage},    {"compute", shares.compute}, {"wait", shares.wait},
          {"hop", shares.hop}, {"idle", shares.idle},       {"bubble", shares.bubble()}};
}

// Where the time of the last busy period went: `bubble` and, by stage, `stages`.
void AddBusyShares(const std::vector<engine::RankInfo>& ranks, Json& body) {
  std::vector<trace::BusyPeriod> periods;
  std::vector<int32_t> stages;
  for (const engine::RankInfo& rank : ranks) {
    periods.push_back(rank.period);
    stages.push_back(rank.stage);
  }
  const auto busy = trace::BusySharesOf(periods, stages);
  body["bubble"] = busy.has_value() ? Json(busy->all.bubble()) : Json(nullptr);
  body["busy_seconds"] = busy.has_value() ? busy->seconds : 0.0;
  body["stages"] = Json::array();
  if (!busy.has_value()) return;
  for (size_t s = 0; s < busy->stages.size(); ++s) body["stages"].push_back(StageEntry(s, busy->stages[s]));
}

Json RankEntry(const engine::RankInfo& rank) {
  Json layers = Json::array();
  for (const auto& [begin, end] : rank.layers) layers.push_back({begin, end});
  return {{"rank", rank.rank},
          {"stage", rank.stage},
          {"lane", rank.lane},
          {"layers", std::move(layers)},
          {"mtp_layers", rank.mtp_layers},
          {"rows_computed", rank.rows_computed},
          {"hop_bytes_sent", rank.hop_bytes_sent},
          {"hop_bytes_received", rank.hop_bytes_received},
          {"hop_selection_bytes_sent", rank.hop_selection_bytes_sent},
          {"time",
           {{"compute", SecondsOfNs(rank.times.compute_ns)},
            {"wait", SecondsOfNs(rank.times.wait_ns)},
            {"hop", SecondsOfNs(rank.times.hop_ns)},
            {"idle", SecondsOfNs(rank.times.idle_ns)}}}};
}

Json OrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json ReportEntry(const engine::RankReport& rank) {
  Json wait = nullptr;
  if (!rank.op.empty()) {
    wait = {{"op", rank.op},
            {"peer", rank.peer < 0 ? Json(nullptr) : Json(rank.peer)},
            {"bytes", rank.bytes},
            {"seconds", rank.waited_seconds}};
  }
  return {{"rank", rank.rank},
          {"stage", rank.stage},
          {"lane", rank.lane},
          {"host", rank.host},
          {"activity", rank.activity},
          {"step", rank.step},
          {"pass", rank.pass},
          {"layer", rank.layer},
          {"received_step", rank.received_step},
          {"wait", std::move(wait)},
          {"progress_age_seconds", rank.progress_age_seconds},
          {"heard_age_seconds", rank.heard_age_seconds},
          {"collectives", rank.collectives},
          {"hops_sent", rank.hops_sent},
          {"hops_taken", rank.hops_taken},
          {"error", OrNull(rank.error)}};
}

// Bytes that the lanes sent one another for experts, beside what the counted rows make one expect: a row goes
// to every owner of an expert it chose, and (lanes - 1) / lanes of the owners are other lanes.
Json ExpertExchange(const engine::EngineInfo& engine, const std::vector<engine::RankInfo>& ranks) {
  int64_t choices = 0;
  int64_t dispatch = 0;
  int64_t returned = 0;
  int64_t owners = 0;
  for (const engine::RankInfo& rank : ranks) {
    choices += rank.expert_choice_bytes;
    dispatch += rank.expert_dispatch_bytes;
    returned += rank.expert_return_bytes;
    owners += rank.expert_row_owners;
  }
  const int64_t elsewhere = owners * (engine.lanes - 1) / engine.lanes;
  return {{"choice_bytes", choices},    {"row_owners", owners},
          {"dispatch_bytes", dispatch}, {"dispatch_bytes_formula", elsewhere * engine.expert_row_bytes},
          {"return_bytes", returned},   {"return_bytes_formula", elsewhere * engine.expert_sum_bytes}};
}

}  // namespace

HttpResponse ModelList(const Service& service) {
  return JsonResponse({{"object", "list"}, {"data", Json::array({ModelEntry(service)})}});
}

HttpResponse OneModel(const Service& service, const std::string& id) {
  if (id == service.info.served_model_name || id == service.info.model_path)
    return JsonResponse(ModelEntry(service));
  throw ApiError(Refusal::kModelNotFound,
                 fmt::format("there is no model \"{}\" here; this server has \"{}\"", Quoted(id),
                             service.info.served_model_name),
                 "model");
}

// The process turns: that this is answered says so.
HttpResponse Live() { return JsonResponse({{"status", "ok"}}); }

HttpResponse VersionAnswer(const Service& service) {
  return JsonResponse(
      {{"version", service.info.version}, {"system_fingerprint", service.info.system_fingerprint}});
}

// SGLang's list with an entry per data-parallel rank, of which there is one; the members after `dp_rank` to
// `num_tokens` are ours.
HttpResponse LoadAnswer(const Service& service) {
  const engine::EngineLoad load = service.engine.Load();
  return JsonResponse(Json::array({Json{{"dp_rank", 0},
                                        {"num_reqs", load.running + load.waiting},
                                        {"num_waiting_reqs", load.waiting},
                                        {"num_tokens", load.used_tokens},
                                        {"num_running_reqs", load.running},
                                        {"cached_tokens", load.cached_tokens},
                                        {"max_total_num_tokens", load.max_total_tokens},
                                        {"pending_prefill_tokens", load.pending_prefill_tokens},
                                        {"prefill_tokens_per_second", load.prefill_tokens_per_second}}}));
}

HttpResponse Ready(const Service& service) {
  CheckRunning(service);
  const std::string stall = service.engine.Stall();
  if (!stall.empty()) throw ApiError(Refusal::kStalled, stall);
  return JsonResponse({{"status", "ok"}});
}

HttpResponse StallReportAnswer(const Service& service) {
  const engine::StallReport report = service.engine.Report();
  Json ranks = Json::array();
  for (const engine::RankReport& rank : report.ranks) ranks.push_back(ReportEntry(rank));
  return JsonResponse({{"status", report.ended             ? "ended"
                                  : report.verdict.empty() ? "ok"
                                                           : "stalled"},
                       {"verdict", OrNull(report.verdict)},
                       {"named_rank", report.named_rank < 0 ? Json(nullptr) : Json(report.named_rank)},
                       {"due_steps", report.due_steps},
                       {"ranks", std::move(ranks)},
                       {"text", report.text}});
}

HttpResponse ServerDescription(const Service& service) {
  const engine::EngineInfo& engine = service.engine.info();
  Json body = service.info.arguments;
  body["version"] = service.info.version;
  body["served_model_name"] = service.info.served_model_name;
  body["model_path"] = service.info.model_path;
  body["system_fingerprint"] = service.info.system_fingerprint;
  body["numerics"] = engine.numerics;
  body["vocab_size"] = engine.vocab_size;
  body["context_length"] = engine.context_length;
  body["max_total_tokens"] = engine.max_total_tokens;
  const std::vector<engine::RankInfo> infos = service.engine.Ranks();
  Json ranks = Json::array();
  for (const engine::RankInfo& rank : infos) ranks.push_back(RankEntry(rank));
  body["ranks"] = std::move(ranks);
  const engine::EngineLoad load = service.engine.Load();  // a list, as SGLang has it, which its bench reads
  body["internal_states"] = Json::array({Json{{"num_running_reqs", load.running},
                                              {"num_waiting_reqs", load.waiting},
                                              {"num_tokens", load.used_tokens}}});
  body["expert_exchange"] = ExpertExchange(engine, infos);
  AddBusyShares(infos, body);
  return JsonResponse(body);
}

HttpResponse ModelDescription(const Service& service) {
  return JsonResponse({{"model_path", service.info.model_path},
                       {"tokenizer_path", service.info.model_path},
                       {"is_generation", true},
                       {"served_model_name", service.info.served_model_name},
                       {"max_model_len", service.engine.info().context_length}});
}

HttpResponse MetricsText(const Service& service) {
  if (service.watchers.metrics == nullptr) {
    throw ApiError(Refusal::kUnknownUrl,
                   "there is no /metrics: the server was started with --disable-metrics");
  }
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = service.watchers.metrics->Text(service.engine.Load(), service.engine.Report());
  return response;
}

}  // namespace sluice::serve
