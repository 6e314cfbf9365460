#include "trace/strip.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace sluice::trace {
namespace {

struct Extent {
  int64_t begin_ns = std::numeric_limits<int64_t>::max();
  int64_t end_ns = std::numeric_limits<int64_t>::min();
  int64_t length() const { return std::max<int64_t>(end_ns - begin_ns, 1); }
};

bool Drawn(const Span& span, SvgDetail detail) {
  return detail == SvgDetail::kSteps ? span.kind == SpanKind::kCompute : span.kind != SpanKind::kIdle;
}

// From the first span that is drawn to the last, over all lanes.
Extent ExtentOf(const std::vector<Lane>& lanes, SvgDetail detail = SvgDetail::kSteps) {
  Extent extent;
  for (const Lane& lane : lanes) {
    for (const Span& span : lane.spans) {
      if (!Drawn(span, detail)) continue;
      extent.begin_ns = std::min(extent.begin_ns, span.begin_ns);
      extent.end_ns = std::max(extent.end_ns, span.end_ns);
    }
  }
  return extent;
}

char LetterOf(int64_t step) {
  constexpr const char* kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  return kLetters[step % 52];
}

}  // namespace

std::vector<std::string> RenderStrip(const std::vector<Lane>& lanes, int width) {
  const Extent extent = ExtentOf(lanes);
  std::vector<std::string> lines;
  for (const Lane& lane : lanes) {
    std::string line(width, '.');
    for (const Span& span : lane.spans) {
      if (span.kind != SpanKind::kCompute) continue;
      // A character belongs to the step that computes at its middle.
      const auto column = [&](int64_t ns) {
        return static_cast<double>(ns - extent.begin_ns) / static_cast<double>(extent.length()) * width;
      };
      for (int i = 0; i < width; ++i) {
        if (i + 0.5 >= column(span.begin_ns) && i + 0.5 < column(span.end_ns)) line[i] = LetterOf(span.step);
      }
    }
    lines.push_back(fmt::format("{:<15} |{}|", lane.label, line));
  }
  return lines;
}

std::string RenderSvg(const std::vector<Lane>& lanes, const std::string& title, SvgDetail detail) {
  constexpr double kWidth = 900.0;
  constexpr double kLeft = 130.0;
  constexpr double kRow = 30.0;
  constexpr double kTop = 40.0;
  const Extent extent = ExtentOf(lanes, detail);
  const double height = kTop + kRow * static_cast<double>(lanes.size()) + 40.0;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" font-family=\"sans-serif\" "
      "font-size=\"13\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n<text x=\"10\" "
      "y=\"22\">{2}</text>\n",
      kLeft + kWidth + 20.0, height, title);
  for (size_t i = 0; i < lanes.size(); ++i) {
    const double y = kTop + kRow * static_cast<double>(i);
    svg += fmt::format(
        "<text x=\"10\" y=\"{}\">{}</text>\n<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"24\" "
        "fill=\"#eee\"/>\n",
        y + 17, lanes[i].label, kLeft, y, kWidth);
    for (const Span& span : lanes[i].spans) {
      if (!Drawn(span, detail)) continue;
      const double scale = kWidth / static_cast<double>(extent.length());
      const double x = kLeft + static_cast<double>(span.begin_ns - extent.begin_ns) * scale;
      const double w = static_cast<double>(span.end_ns - span.begin_ns) * scale;
      const double ms = static_cast<double>(span.end_ns - span.begin_ns) / 1e6;
      const std::string fill = span.kind == SpanKind::kCompute
                                   ? fmt::format("hsl({},60%,65%)", span.step * 47 % 360)
                                   : std::string("#bbb");
      const bool steps = detail == SvgDetail::kSteps;
      const std::string text = steps ? std::string(1, LetterOf(span.step)) : fmt::format("{:.3f} ms", ms);
      svg += fmt::format(
          "<rect x=\"{:.2f}\" y=\"{}\" width=\"{:.2f}\" height=\"24\" fill=\"{}\" stroke=\"#333\" "
          "stroke-width=\"0.5\"><title>{}</title></rect>\n",
          x, y, w, fill, steps ? fmt::format("step {}: {:.1f} ms", span.step, ms) : text);
      const double half = 4.0 * static_cast<double>(text.size());
      if (w > 14 && w > 2 * half - 8) {
        svg += fmt::format("<text x=\"{:.2f}\" y=\"{}\">{}</text>\n", x + w / 2 - half, y + 17, text);
      }
    }
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\">time, {:.1f} ms in all; grey: waiting</text>\n</svg>\n", kLeft,
                     height - 14, static_cast<double>(extent.length()) / 1e6);
  return svg;
}

double PipelineFloor(const std::vector<Lane>& lanes) {
  int32_t stages = 0;
  int64_t longest = 0;
  for (const Lane& lane : lanes) {
    stages = std::max(stages, lane.stage + 1);
    for (const Span& span : lane.spans) {
      if (span.kind == SpanKind::kCompute) longest = std::max(longest, span.end_ns - span.begin_ns);
    }
  }
  return static_cast<double>(stages - 1) * static_cast<double>(longest) /
         static_cast<double>(ExtentOf(lanes).length());
}

}  // namespace sluice::trace
