#include "checkpoint/preload.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <tuple>

#include "base/clock.h"
#include "base/error.h"

namespace sluice::checkpoint {
namespace {

constexpr int64_t kPieceBytes = int64_t{8} << 20;
constexpr int64_t kProgressEveryNs = 50'000'000;

std::vector<FileSpan> CutIntoPieces(std::vector<FileSpan> spans) {
  std::sort(spans.begin(), spans.end(), [](const FileSpan& a, const FileSpan& b) {
    return std::tuple(a.file->path().native(), a.begin) < std::tuple(b.file->path().native(), b.begin);
  });
  std::vector<FileSpan> pieces;
  for (const FileSpan& span : spans) {
    for (int64_t done = 0; done < span.bytes; done += kPieceBytes) {
      pieces.push_back({span.file, span.begin + done, std::min(kPieceBytes, span.bytes - done)});
    }
  }
  return pieces;
}

// The state the loader threads share.
struct Reading {
  Reading(std::vector<FileSpan> spans, const LoadProgress& report)
      : pieces(CutIntoPieces(std::move(spans))), progress(report) {
    for (const FileSpan& piece : pieces) bytes_total += piece.bytes;
  }

  std::vector<FileSpan> pieces;
  int64_t bytes_total = 0;
  const LoadProgress& progress;
  std::atomic<size_t> next{0};
  std::mutex mutex;  // guards what follows, and serialises calls of `progress`
  int64_t bytes_done = 0;
  int64_t reported_ns = 0;
  std::exception_ptr error = nullptr;

  void Run() {
    std::vector<std::byte> sink(static_cast<size_t>(kPieceBytes));
    try {
      for (size_t i = next++; i < pieces.size(); i = next++) {
        const FileSpan& piece = pieces[i];
        piece.file->ReadAt(piece.begin, std::span(sink).first(static_cast<size_t>(piece.bytes)));
        Report(piece.bytes);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
      next = pieces.size();
    }
  }

  void Report(int64_t bytes) {
    const std::lock_guard lock(mutex);
    bytes_done += bytes;
    const int64_t now = NowNs();
    if (!progress || (bytes_done < bytes_total && now - reported_ns < kProgressEveryNs)) return;
    reported_ns = now;
    progress(bytes_done, bytes_total);
  }
};

}  // namespace

void ReadIntoPageCache(std::vector<FileSpan> spans, int threads, const LoadProgress& progress) {
  SLUICE_CHECK(threads >= 1 && threads <= 64, "{} loader threads", threads);
  Reading reading(std::move(spans), progress);
  {
    std::vector<std::jthread> loaders;
    const auto useful = std::min<size_t>(static_cast<size_t>(threads), reading.pieces.size());
    for (size_t i = 0; i < useful; ++i) loaders.emplace_back([&reading] { reading.Run(); });
  }
  if (reading.error) std::rethrow_exception(reading.error);
}

}  // namespace sluice::checkpoint
