#include "cli/bench_profile.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "trace/pipeline_lanes.h"

namespace sluice::cli {
namespace {

bench::Json Ask(client::HttpClient& http, const char* path, const bench::Json& body) {
  const client::HttpAnswer answer = http.Post(path, body.dump());
  if (!answer.ok()) {
    Fail(ErrorKind::kBadRequest, "--profile: {} answers with status {}: {}", path, answer.status,
         answer.body);
  }
  return bench::Json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
}

}  // namespace

void StartProfile(client::HttpClient& http, const std::string& output_dir) {
  Ask(http, "/start_profile", {{"output_dir", output_dir}});
}

std::vector<std::string> StopProfile(client::HttpClient& http) {
  const bench::Json answer = Ask(http, "/stop_profile", bench::Json::object());
  std::vector<std::string> files;
  if (!answer.is_object() || !answer.contains("files")) return files;
  for (const bench::Json& file : answer["files"]) {
    if (file.is_string()) files.push_back(file.get<std::string>());
  }
  return files;
}

std::vector<trace::Lane> TimelineOf(const std::vector<std::string>& files) {
  std::vector<std::filesystem::path> paths;
  for (const std::string& file : files) {
    if (file.ends_with(".sltrace")) paths.emplace_back(file);
  }
  const auto is_here = [](const std::filesystem::path& path) { return std::filesystem::exists(path); };
  if (paths.empty() || !std::ranges::all_of(paths, is_here)) return {};
  return trace::PipelineLanes(paths);
}

}  // namespace sluice::cli
