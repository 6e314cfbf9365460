#include "bench/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace sluice::bench {
namespace {

constexpr double kLeft = 70.0, kTop = 36.0, kWidth = 560.0, kHeight = 260.0;
constexpr std::array kColours{"#1b6ca8", "#d1495b", "#2e933c", "#8e6c8a", "#e09f3e", "#4a4e69"};

// Where a value lies along an axis, 0 to 1.
class Axis {
 public:
  explicit Axis(const std::set<double>& values)
      : low_(values.empty() ? 0.0 : *values.begin()), high_(values.empty() ? 1.0 : *values.rbegin()) {
    log_ = low_ > 0.0 && high_ > 8.0 * low_;
  }
  double At(double value) const {
    if (high_ == low_) return 0.5;
    if (log_) return std::log(value / low_) / std::log(high_ / low_);
    return (value - low_) / (high_ - low_);
  }

 private:
  double low_, high_;
  bool log_ = false;
};

std::string Text(double x, double y, const char* anchor, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     Escaped(text));
}

}  // namespace

std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

double MarkDistance(double highest) {
  if (!(highest > 0.0)) return 1.0;
  const double power = std::pow(10.0, std::floor(std::log10(highest)));
  const double leading = highest / power;  // 1 to 10
  return power * (leading < 2.0 ? 0.2 : leading < 5.0 ? 0.5 : 1.0);
}

std::string RenderChart(const Chart& chart) {
  std::set<double> xs;
  double highest = 0.0;
  for (const Series& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      xs.insert(x);
      highest = std::max(highest, y);
    }
  }
  const Axis axis(xs);
  const double step = MarkDistance(highest);
  const double top = std::max(step, std::ceil(highest / step) * step);
  const auto across = [&axis](double x) { return kLeft + axis.At(x) * kWidth; };
  const auto up = [top](double y) { return kTop + kHeight * (1.0 - y / top); };

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"820\" height=\"350\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"820\" height=\"350\" fill=\"white\"/>\n");
  svg += fmt::format("<text x=\"10\" y=\"20\" font-size=\"14\">{}</text>\n", Escaped(chart.title));
  for (int mark = 0; mark * step <= top * 1.0001; ++mark) {
    const double y = up(mark * step);
    svg += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", kLeft,
                       kLeft + kWidth, y, y);
    svg += Text(kLeft - 6, y + 4, "end", fmt::format("{:.10g}", mark * step));
  }
  double last_mark = -1e9;
  for (const double x : xs) {
    if (across(x) - last_mark < 34.0) continue;  // they would overlap
    last_mark = across(x);
    svg += Text(last_mark, kTop + kHeight + 16, "middle", fmt::format("{:.10g}", x));
  }
  svg += Text(kLeft + kWidth / 2, kTop + kHeight + 36, "middle", chart.x_label);
  svg += fmt::format("<text transform=\"translate(14,{}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     kTop + kHeight / 2, Escaped(chart.y_label));
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    const char* colour = kColours[i % kColours.size()];
    std::string line;
    std::string dots;
    for (const auto& [x, y] : series.points) {
      line += fmt::format("{:.1f},{:.1f} ", across(x), up(y));
      dots += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{:.10g}: {:.6g}</title>"
          "</circle>\n",
          across(x), up(y), colour, x, y);
    }
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n{}", line,
                       colour, dots);
    const double y = kTop + 10 + 18.0 * static_cast<double>(i);
    svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/>\n",
                       kLeft + kWidth + 20, y - 9, colour);
    svg += Text(kLeft + kWidth + 36, y, "start", series.name);
  }
  return svg + "</svg>\n";
}

}  // namespace sluice::bench
