#include "checkpoint/load_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/clock.h"

namespace sluice::checkpoint {
namespace {

constexpr int kBarWidth = 24;
constexpr int64_t kRedrawEveryNs = 100'000'000;
constexpr int64_t kLineEveryNs = 5'000'000'000;

std::string ShownSeconds(double seconds) {
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace

std::string ShownBytes(double bytes) {
  constexpr std::array<const char*, 6> kUnits = {"B", "KB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < kUnits.size()) {
    bytes /= 1000.0;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 99.95 ? 0 : 1, kUnits[unit]);
}

std::string ProgressLine(const std::string& label, int64_t done, int64_t total, double seconds,
                         int bar_width) {
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  std::string line = label + " ";
  if (bar_width > 0) {
    const auto filled = static_cast<size_t>(share * bar_width);
    line += fmt::format("[{:#<{}}{:.<{}}] ", "", filled, "", static_cast<size_t>(bar_width) - filled);
  }
  line += fmt::format("{:3.0f}%  {} of {}", std::floor(100.0 * share), ShownBytes(static_cast<double>(done)),
                      ShownBytes(static_cast<double>(total)));
  if (seconds <= 0.0 || done == 0) return line;
  const double rate = static_cast<double>(done) / seconds;
  line += fmt::format("  {:.2f} GB/s", rate / 1e9);
  if (done < total) {
    line += fmt::format("  {} left", ShownSeconds(static_cast<double>(total - done) / rate));
  } else {
    line += fmt::format("  in {}", ShownSeconds(seconds));
  }
  return line;
}

LoadProgressBar::LoadProgressBar(std::string label, std::FILE* stream)
    : LoadProgressBar(std::move(label), stream, isatty(fileno(stream)) == 1) {}

LoadProgressBar::LoadProgressBar(std::string label, std::FILE* stream, bool terminal)
    : label_(std::move(label)),
      stream_(stream),
      terminal_(terminal),
      start_ns_(NowNs()),
      shown_ns_(terminal ? start_ns_ - kRedrawEveryNs : start_ns_) {}

LoadProgressBar::LoadProgressBar(std::string label, std::function<void(const std::string&)> write)
    : label_(std::move(label)),
      stream_(nullptr),
      write_(std::move(write)),
      terminal_(false),
      start_ns_(NowNs()),
      shown_ns_(start_ns_) {}

LoadProgress LoadProgressBar::callback() {
  return [this](int64_t done, int64_t total) { Report(done, total, NowNs()); };
}

void LoadProgressBar::Report(int64_t done, int64_t total, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const bool last = done >= total;
  if (finished_ || (!last && now_ns - shown_ns_ < (terminal_ ? kRedrawEveryNs : kLineEveryNs))) return;
  shown_ns_ = now_ns;
  finished_ = last;
  const std::string line = ProgressLine(label_, done, total, static_cast<double>(now_ns - start_ns_) / 1e9,
                                        terminal_ ? kBarWidth : 0);
  if (stream_ == nullptr) return write_(line);
  // \033[K clears what a longer line before may have left.
  fmt::print(stream_, "{}{}{}", terminal_ ? "\r" : "", line,
             terminal_ ? (last ? "\033[K\n" : "\033[K") : "\n");
  std::fflush(stream_);
}

}  // namespace sluice::checkpoint
