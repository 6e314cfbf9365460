#include "bench/report.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "bench/chart.h"
#include "bench/timeline.h"
#include "trace/strip.h"

namespace sluice::bench {
namespace {

// A column of a table: its head, the member it shows, and the digits behind the point (-1: as it is).
struct Column {
  const char* head;
  const char* member;
  int digits;
};

double Number(const Json& result, const char* member) {
  const auto found = result.find(member);
  return found != result.end() && found->is_number() ? found->get<double>() : 0.0;
}

std::string Shown(const Json& result, const Column& column) {
  const auto found = result.find(column.member);
  if (found == result.end() || found->is_null()) return "";
  if (found->is_number() && column.digits >= 0) {
    return fmt::format("{:.{}f}", found->get<double>(), column.digits);
  }
  return Escaped(found->is_string() ? found->get<std::string>() : found->dump());
}

std::vector<Json> OfKind(const std::vector<Json>& results, std::string_view kind) {
  std::vector<Json> chosen;
  for (const Json& result : results) {
    if (result.value("kind", "") == kind) chosen.push_back(result);
  }
  return chosen;
}

std::string Table(const char* title, const std::vector<Json>& results, const std::vector<Column>& columns) {
  if (results.empty()) return "";
  std::string html = fmt::format("<h2>{}</h2>\n<table>\n<tr>", title);
  for (const Column& column : columns) html += fmt::format("<th>{}</th>", column.head);
  html += "</tr>\n";
  for (const Json& result : results) {
    html += "<tr>";
    for (const Column& column : columns) html += fmt::format("<td>{}</td>", Shown(result, column));
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

// A chart of y over x with a series for each value of `by`; nothing when no series has two points.
std::string LineChart(const std::vector<Json>& results, Chart chart, const char* x, const char* y,
                      const char* by, const char* by_name, double scale) {
  std::map<double, std::map<double, double>> points;
  for (const Json& result : results)
    points[Number(result, by)][Number(result, x)] = Number(result, y) * scale;
  bool any = false;
  for (const auto& [key, line] : points) {
    any = any || line.size() > 1;
    const std::string name =
        key == 0.0 ? fmt::format("{} not set", by_name) : fmt::format("{} {:.10g}", by_name, key);
    chart.series.push_back({name, {line.begin(), line.end()}});
  }
  return any ? RenderChart(chart) : "";
}

std::string Charts(const std::vector<Json>& serve, const std::vector<Json>& prefill,
                   const std::vector<Json>& decode) {
  std::string html;
  html += LineChart(serve, {"TTFT over context, at the server", "prompt tokens", "median TTFT, ms", {}},
                    "random_input_len", "median_ttft_ms", "max_concurrency", "concurrency", 1.0);
  html += LineChart(serve, {"Throughput over concurrency", "requests at a time", "output tokens/s", {}},
                    "max_concurrency", "output_throughput", "random_input_len", "prompt", 1.0);
  html +=
      LineChart(serve, {"All tokens over concurrency", "requests at a time", "input and output tokens/s", {}},
                "max_concurrency", "total_throughput", "random_input_len", "prompt", 1.0);
  html += LineChart(prefill, {"TTFT over context, engine alone", "prompt tokens", "median TTFT, ms", {}},
                    "input_len", "median_ttft_ms", "chunk_size", "chunk", 1.0);
  html += LineChart(prefill, {"Bubble over chunk size", "rows of a chunk", "bubble, %", {}}, "chunk_size",
                    "bubble", "input_len", "prompt", 100.0);
  html += LineChart(decode, {"Decode over batch", "sequences", "tokens/s", {}}, "batch", "tokens_per_second",
                    "depth", "depth", 1.0);
  return html;
}

std::string Timelines(const std::vector<Json>& results) {
  std::string html;
  for (const Json& result : results) {
    const auto found = result.find("timeline");
    if (found == result.end() || !found->is_array()) continue;
    std::string title =
        fmt::format("Prompts of {} tokens", result.value("input_len", result.value("random_input_len", 0)));
    if (result.contains("chunk_size"))
      title += fmt::format(" in chunks of {}", result.value("chunk_size", 0));
    html += trace::RenderSvg(LanesOf(*found), Escaped(title)) + "\n";
  }
  return html.empty() ? html : "<h2>Timelines</h2>\n" + html;
}

constexpr const char* kHead =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>sluice bench</title>\n<style>\n"
    "body { font-family: sans-serif; margin: 2em; }\n"
    "table { border-collapse: collapse; }\n"
    "th, td { border-bottom: 1px solid #ccc; padding: 0.2em 0.8em; text-align: right; font-size: 13px; }\n"
    "svg { display: block; margin: 1em 0; }\n"
    "</style></head><body>\n<h1>sluice bench</h1>\n";

}  // namespace

std::string RenderReport(const std::vector<Json>& results) {
  const std::vector<Json> serve = OfKind(results, "serve");
  const std::vector<Json> prefill = OfKind(results, "prefill");
  const std::vector<Json> decode = OfKind(results, "decode");
  std::string html = kHead;
  html += Table("Load on a server", serve,
                {{"dataset", "dataset_name", -1},
                 {"prompt", "random_input_len", -1},
                 {"output", "random_output_len", -1},
                 {"concurrency", "max_concurrency", -1},
                 {"rate, 1/s", "request_rate", -1},
                 {"completed", "completed", -1},
                 {"failed", "failed", -1},
                 {"output tokens/s", "output_throughput", 1},
                 {"all tokens/s", "total_throughput", 1},
                 {"TTFT median, ms", "median_ttft_ms", 2},
                 {"P99", "p99_ttft_ms", 2},
                 {"TPOT median, ms", "median_tpot_ms", 2},
                 {"ITL P99, ms", "p99_itl_ms", 2},
                 {"ended early", "ended_early", -1}});
  html += Table("Prefill, engine alone", prefill,
                {{"layout", "layout", -1},
                 {"prompt", "input_len", -1},
                 {"chunk", "chunk_size", -1},
                 {"TTFT median, ms", "median_ttft_ms", 2},
                 {"tokens/s", "tokens_per_second", 1},
                 {"bubble", "bubble", 3},
                 {"(S-1) x longest / makespan", "bubble_floor", 3}});
  html += Table("Decode, engine alone", decode,
                {{"layout", "layout", -1},
                 {"depth", "depth", -1},
                 {"batch", "batch", -1},
                 {"tokens/s", "tokens_per_second", 2},
                 {"step median, ms", "median_step_ms", 2}});
  html += Charts(serve, prefill, decode);
  html += Timelines(results);
  return html + "</body></html>\n";
}

}  // namespace sluice::bench
