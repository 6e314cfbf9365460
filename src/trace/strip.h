#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trace/recorder.h"

namespace sluice::trace {

// The spans of one rank, for a picture.
struct Lane {
  std::string label;  // "stage 0 lane 1"
  int32_t stage = 0;
  std::vector<Span> spans;
};

// Rank x time in text, one line a lane: a letter per step while it computes (A, B, ... Z, a, b ...), a dot
// while it waits. `width` characters span the time from the first span's begin to the last compute's end.
std::vector<std::string> RenderStrip(const std::vector<Lane>& lanes, int width);

// What an SVG shows: a rectangle for each compute span with its step's letter; or, for few spans, one for
// each span of any kind but idle, waits in grey, with its duration in milliseconds.
enum class SvgDetail : uint8_t { kSteps, kDurations };

// The same as an SVG document; `title` and labels are XML text.
std::string RenderSvg(const std::vector<Lane>& lanes, const std::string& title,
                      SvgDetail detail = SvgDetail::kSteps);

// (stages - 1) x longest step / makespan: what a full pipe cannot avoid.
double PipelineFloor(const std::vector<Lane>& lanes);

}  // namespace sluice::trace
