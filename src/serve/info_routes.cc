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

Json RankEntry(const engine::RankInfo& rank) {
  Json layers = Json::array();
  for (const auto& [begin, end] : rank.layers) layers.push_back({begin, end});
  return {{"rank", rank.rank},
          {"stage", rank.stage},
          {"lane", rank.lane},
          {"layers", std::move(layers)},
          {"rows_computed", rank.rows_computed},
          {"hop_bytes_sent", rank.hop_bytes_sent},
          {"hop_bytes_received", rank.hop_bytes_received}};
}

// Bytes that the lanes sent one another for experts, beside what the counted rows make one expect: a row goes to
// every owner of an expert it chose, and (lanes - 1) / lanes of the owners are other lanes.
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
  return {{"choice_bytes", choices},
          {"row_owners", owners},
          {"dispatch_bytes", dispatch},
          {"dispatch_bytes_formula", elsewhere * engine.expert_row_bytes},
          {"return_bytes", returned},
          {"return_bytes_formula", elsewhere * engine.expert_sum_bytes}};
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
  body["expert_exchange"] = ExpertExchange(engine, infos);
  return Answer(body);
}

}  // namespace sluice::serve
