#include "bench/timeline.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace sluice::bench {
namespace {

constexpr int kStripWidth = 72;

trace::Span SpanOf(const Json& entry) {
  trace::Span span;
  span.begin_ns = std::llround(entry.at(0).get<double>() * 1e3);
  span.end_ns = std::llround(entry.at(1).get<double>() * 1e3);
  span.step = entry.at(2).get<int64_t>();
  return span;
}

}  // namespace

Json TimelineJson(const std::vector<trace::Lane>& lanes) {
  int64_t first = std::numeric_limits<int64_t>::max();
  const auto computes = [](const trace::Span& span) { return span.kind == trace::SpanKind::kCompute; };
  for (const trace::Lane& lane : lanes) {
    for (const trace::Span& span : lane.spans) {
      if (computes(span)) first = std::min(first, span.begin_ns);
    }
  }
  const auto us = [first](int64_t ns) { return static_cast<double>(ns - first) / 1e3; };
  Json timeline = Json::array();
  for (const trace::Lane& lane : lanes) {
    Json spans = Json::array();
    for (const trace::Span& span : lane.spans) {
      if (computes(span)) spans.push_back({us(span.begin_ns), us(span.end_ns), span.step});
    }
    timeline.push_back({{"label", lane.label}, {"stage", lane.stage}, {"spans", std::move(spans)}});
  }
  return timeline;
}

std::vector<trace::Lane> LanesOf(const Json& timeline) {
  try {
    std::vector<trace::Lane> lanes;
    for (const Json& entry : timeline) {
      trace::Lane lane{entry.at("label").get<std::string>(), entry.at("stage").get<int32_t>(), {}};
      for (const Json& span : entry.at("spans")) lane.spans.push_back(SpanOf(span));
      lanes.push_back(std::move(lane));
    }
    return lanes;
  } catch (const Json::exception& wrong) {
    Fail(ErrorKind::kUsage, "a timeline is not one of ours: {}", wrong.what());
  }
}

std::string TimelineText(const std::vector<trace::Lane>& lanes) {
  std::string text;
  for (const std::string& line : trace::RenderStrip(lanes, kStripWidth)) text += line + "\n";
  return text;
}

}  // namespace sluice::bench
