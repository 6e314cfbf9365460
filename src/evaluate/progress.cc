#include "evaluate/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

namespace sluice::evaluate {
namespace {

constexpr int64_t kCells = 20;

std::string ShownTime(double seconds) {
  const auto whole = static_cast<int64_t>(std::min(seconds, 359999.0));
  if (whole < 3600) return fmt::format("{:02}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

std::string ProgressLine(const std::string& name, int64_t done, int64_t total, double seconds) {
  const int64_t filled = total == 0 ? kCells : done * kCells / total;
  std::string bar;
  for (int64_t cell = 0; cell < kCells; ++cell) bar += cell < filled ? "█" : " ";
  const double rate = static_cast<double>(done) / seconds;
  const std::string left = done == 0 ? "?" : ShownTime(static_cast<double>(total - done) / rate);
  return fmt::format("{}: {:3}%|{}| {}/{} [{}<{}, {:.2f}it/s]", name, total == 0 ? 100 : done * 100 / total,
                     bar, done, total, ShownTime(seconds), left, rate);
}

Progress::Progress(std::string name, int64_t total)
    : name_(std::move(name)), total_(total), terminal_(::isatty(STDERR_FILENO) == 1) {}

double Progress::seconds() const {
  return std::max(1e-9, std::chrono::duration<double>(Clock::now() - begin_).count());
}

void Progress::Show(int64_t done) {
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  if (terminal_) {
    fmt::print(stderr, "\r{}\x1b[K", ProgressLine(name_, done, total_, seconds()));
  } else if (next_ > begin_) {  // not at once: a short run needs no line but its last
    fmt::print(stderr, "{}\n", ProgressLine(name_, done, total_, seconds()));
  }
  next_ = now + (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10));
}

void Progress::Finish(int64_t done) {
  fmt::print(stderr, "{}{}{}\n", terminal_ ? "\r" : "", ProgressLine(name_, done, total_, seconds()),
             terminal_ ? "\x1b[K" : "");
}

}  // namespace sluice::evaluate
