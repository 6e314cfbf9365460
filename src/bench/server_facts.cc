#include "bench/server_facts.h"

#include <fmt/format.h>

namespace sluice::bench {
namespace {

// The JSON object under `path`; empty when the server has none there.
Json ObjectAt(client::HttpClient& http, const char* path) {
  const client::HttpAnswer answer = http.Get(path);
  if (!answer.ok()) return Json::object();
  Json body = Json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  return body.is_object() ? body : Json::object();
}

}  // namespace

ServerFacts LookAtServer(client::HttpClient& http) {
  ServerFacts facts;
  const Json models = ObjectAt(http, "/v1/models");
  if (const auto data = models.find("data"); data != models.end() && data->is_array() && !data->empty()) {
    const Json& first = data->front();
    if (first.is_object()) facts.model = first.value("id", "");
  }
  const Json info = ObjectAt(http, "/get_server_info");
  if (const auto size = info.find("vocab_size");
      size != info.end() && size->is_number_integer() && *size > 0) {
    facts.vocab_size = size->get<int64_t>();
  }
  return facts;
}

Json BusyPeriodOf(client::HttpClient& http) {
  const Json info = ObjectAt(http, "/get_server_info");
  if (!info.contains("bubble") || !info["bubble"].is_number() || !info.contains("stages")) return nullptr;
  return {{"busy_seconds", info.value("busy_seconds", 0.0)},
          {"bubble", info["bubble"]},
          {"stages", info["stages"]}};
}

std::string BusyPeriodText(const Json& period) {
  std::string text =
      fmt::format("The server's last busy period: {:.3f} s, bubble {:.1f} %\n",
                  period["busy_seconds"].get<double>(), 100.0 * period["bubble"].get<double>());
  for (const Json& stage : period["stages"]) {
    const auto percent = [&stage](const char* part) { return 100.0 * stage.value(part, 0.0); };
    text += fmt::format("  stage {}: compute {:5.1f} %, wait {:5.1f} %, hop {:5.1f} %, idle {:5.1f} %\n",
                        stage.value("stage", 0), percent("compute"), percent("wait"), percent("hop"),
                        percent("idle"));
  }
  return text;
}

}  // namespace sluice::bench
