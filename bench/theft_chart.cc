#include "theft_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace sluice::bench {
namespace {

constexpr int kLeft = 300;
constexpr int kWidth = 640;
constexpr int kTop = 92;
constexpr int kRow = 28;
constexpr double kLeast = 0.9;

struct Series {
  const char* colour;
  const char* what;
};
constexpr Series kFixed{"#c0392b", "fixed tiles, all SMs"};
constexpr Series kCounter{"#1f6fb2", "tiles from a counter, all SMs"};
constexpr Series kReserved{"#2e8b57", "from a counter, neighbours' SMs left to them"};

// A disc beside one neighbour, a ring beside four.
std::string Point(double x, double y, const Series& series, size_t which, const std::string& title) {
  return fmt::format(
      R"(<circle cx="{:.1f}" cy="{:.1f}" r="5" fill="{}" stroke="{}" stroke-width="2"><title>{}</title></circle>)"
      "\n",
      x, y, which == 0 ? series.colour : "white", series.colour, title);
}

std::string Text(double x, double y, const std::string& text, const char* anchor = "start") {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)"
                     "\n",
                     x, y, anchor, text);
}

}  // namespace

std::string TheftChart(const std::vector<TheftRow>& rows, const std::string& gpu) {
  double most = 2.0;
  for (const TheftRow& row : rows) most = std::max({most, row.fixed[0], row.fixed[1]});
  const auto at = [&](double ratio) { return kLeft + (ratio - kLeast) / (most + 0.05 - kLeast) * kWidth; };
  const int bottom = kTop + kRow * static_cast<int>(rows.size());
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" font-family="sans-serif" font-size="13">
<rect width="{0}" height="{1}" fill="white"/>
)",
      kLeft + kWidth + 20, bottom + 34);
  const auto out = std::back_inserter(svg);
  svg += Text(
      10, 22,
      fmt::format("Time beside kernels that hold one SM each, as a multiple of the time alone ({})", gpu));
  double x = 10;
  for (const Series& series : {kFixed, kCounter, kReserved}) {
    svg += Point(x + 6, 42, series, 0, series.what) + Text(x + 18, 46, series.what);
    x += 60 + 6.6 * static_cast<double>(std::string_view(series.what).size());
  }
  svg += Text(10, 68, "disc: beside one neighbour; ring: beside four; line: 1.02");
  for (int tenth = 10; tenth / 10.0 <= most + 0.01; tenth += 2) {
    const double ratio = tenth / 10.0;
    fmt::format_to(out,
                   R"(<line x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2}" stroke="#ddd"/>)"
                   "\n",
                   at(ratio), kTop - 8, bottom);
    svg += Text(at(ratio), bottom + 18, fmt::format("{:.1f}", ratio), "middle");
  }
  fmt::format_to(out,
                 R"(<line x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2}" stroke="#888" stroke-dasharray="4 3"/>)"
                 "\n",
                 at(1.02), kTop - 8, bottom);
  for (size_t i = 0; i < rows.size(); ++i) {
    const TheftRow& row = rows[i];
    const double y = kTop + kRow * (static_cast<double>(i) + 0.5);
    svg += Text(10, y + 4, row.kernel);
    // Points that would cover each other lie a little apart.
    const struct {
      const Series& series;
      const std::array<double, 2>& ratios;
      double shift;
    } all[] = {{kFixed, row.fixed, 0.0}, {kCounter, row.counter, -5.0}, {kReserved, row.reserved, 5.0}};
    for (const auto& [series, ratios, shift] : all) {
      for (const size_t which : {size_t{1}, size_t{0}}) {
        svg += Point(at(ratios[which]), y + shift, series, which,
                     fmt::format("{}, {}: {:.3f}", row.kernel, series.what, ratios[which]));
      }
    }
  }
  return svg + "</svg>\n";
}

}  // namespace sluice::bench
