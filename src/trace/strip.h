#pragma once

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

// The same as an SVG document.
std::string RenderSvg(const std::vector<Lane>& lanes, const std::string& title);

// (stages - 1) x longest step / makespan: what a full pipe cannot avoid.
double PipelineFloor(const std::vector<Lane>& lanes);

}  // namespace sluice::trace
