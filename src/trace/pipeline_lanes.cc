#include "trace/pipeline_lanes.h"

#include <fmt/format.h>

#include <algorithm>

#include "trace/dump.h"

namespace sluice::trace {

std::vector<Lane> PipelineLanes(const std::vector<std::filesystem::path>& files) {
  std::vector<Lane> lanes;
  for (const auto& file : files) {
    DumpReader reader(file);
    const DumpHeader& header = reader.header();
    const ClockLine line(header.clock);
    Lane lane{fmt::format("stage {} lane {}", header.stage, header.lane), header.stage, {}};
    int64_t pass_end_ns = 0;
    bool computes = false;  // the last span is of the pass under way
    while (const auto event = reader.Next()) {
      if (event->kind == EventKind::kPass) {
        pass_end_ns = event->end_ns;
        computes = false;
      }
      const bool works = event->kind == EventKind::kOp || event->kind == EventKind::kCollective;
      if (!works || event->end_ns > pass_end_ns) continue;
      const int64_t end_ns = line.Aligned(event->end_ns);
      if (computes) {
        lane.spans.back().end_ns = std::max(lane.spans.back().end_ns, end_ns);
      } else {
        lane.spans.push_back(
            {line.Aligned(event->begin_ns), end_ns, SpanKind::kCompute, event->step, event->pass});
        computes = true;
      }
    }
    lanes.push_back(std::move(lane));
  }
  return lanes;
}

std::string XmlText(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace sluice::trace
