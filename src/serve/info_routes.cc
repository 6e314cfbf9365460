#include <fmt/format.h>

#include "serve/errors.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {

HttpResponse Answer(const Json& body) {
  HttpResponse response;
  response.body = ToText(body);
  return response;
}

Json ModelEntry(const Service& service) {
  return {{"id", service.info.served_model_name}, {"object", "model"},
          {"created", service.started},           {"owned_by", "sluice"},
          {"root", service.info.model_path},      {"max_model_len", service.engine.info().context_length}};
}

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

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
          {"rows_computed", rank.rows_computed},
          {"hop_bytes_sent", rank.hop_bytes_sent},
          {"hop_bytes_received", rank.hop_bytes_received},
          {"time",
           {{"compute", Seconds(rank.times.compute_ns)},
            {"wait", Seconds(rank.times.wait_ns)},
            {"hop", Seconds(rank.times.hop_ns)},
            {"idle", Seconds(rank.times.idle_ns)}}}};
}

}  // namespace

HttpResponse ModelList(const Service& service) {
  return Answer({{"object", "list"}, {"data", Json::array({ModelEntry(service)})}});
}

HttpResponse OneModel(const Service& service, const std::string& id) {
  if (id == service.info.served_model_name || id == service.info.model_path)
    return Answer(ModelEntry(service));
  throw ApiError(Refusal::kModelNotFound,
                 fmt::format("there is no model \"{}\" here; this server has \"{}\"", Quoted(id),
                             service.info.served_model_name),
                 "model");
}

HttpResponse Health(const Service& service) {
  const std::string verdict = service.engine.Verdict();
  if (!verdict.empty()) throw ApiError(Refusal::kRankLost, verdict);
  return Answer({{"status", "ok"}});
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
  AddBusyShares(infos, body);
  return Answer(body);
}

}  // namespace sluice::serve
