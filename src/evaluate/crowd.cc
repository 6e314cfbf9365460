#include "evaluate/crowd.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "evaluate/progress.h"

namespace sluice::evaluate {
namespace {

volatile sig_atomic_t signalled = 0;

// While it lives the first SIGINT or SIGTERM is noted instead of ending the process.
class SignalNote {
 public:
  SignalNote() {
    signalled = 0;
    struct sigaction note {};
    note.sa_handler = [](int) { signalled = 1; };
    note.sa_flags = static_cast<int>(SA_RESETHAND);
    ::sigaction(SIGINT, &note, &interrupt_);
    ::sigaction(SIGTERM, &note, &terminate_);
  }
  ~SignalNote() {
    ::sigaction(SIGINT, &interrupt_, nullptr);
    ::sigaction(SIGTERM, &terminate_, nullptr);
  }
  SignalNote(const SignalNote&) = delete;
  SignalNote& operator=(const SignalNote&) = delete;

 private:
  struct sigaction interrupt_ {};
  struct sigaction terminate_ {};
};

constexpr std::chrono::milliseconds kLookForSignal{50};

}  // namespace

std::string CrowdEnd::reason() const {
  if (failure) return failure->what();
  return interrupted ? "interrupted by a signal" : "";
}

CrowdEnd RunCrowd(const std::string& name, const ServerOptions& options, int64_t count, int64_t parallel,
                  const std::function<void(CompletionServer& server, int64_t index)>& work) {
  const int64_t threads = std::min(count, parallel);
  std::vector<std::unique_ptr<CompletionServer>> servers;
  for (int64_t i = 0; i < threads; ++i) servers.push_back(std::make_unique<CompletionServer>(options));

  SignalNote note;
  Progress progress(name, count);
  std::mutex mutex;
  std::condition_variable changed;
  CrowdEnd end;               // under the mutex while threads run
  int64_t working = threads;  // under the mutex
  std::atomic<int64_t> next{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> crowd;
  for (const auto& server : servers) {
    crowd.emplace_back([&, server = server.get()] {
      std::optional<Error> failure;
      while (!stop && !failure) {
        const int64_t index = next++;
        if (index >= count) break;
        try {
          work(*server, index);
          const std::lock_guard lock(mutex);
          ++end.done;
        } catch (const Error& error) {
          failure = error;
        } catch (const std::exception& error) {
          failure = Error(ErrorKind::kInternal, error.what());
        }
      }
      const std::lock_guard lock(mutex);
      if (failure && !stop) {  // what a cancelled request says is no news
        end.failure = failure;
        stop = true;
      }
      --working;
      changed.notify_all();
    });
  }
  {
    std::unique_lock lock(mutex);
    bool cancelled = false;
    while (working > 0) {
      changed.wait_for(lock, kLookForSignal);
      if (signalled != 0 && !stop) {
        end.interrupted = true;
        stop = true;
      }
      if (stop && !cancelled) {
        cancelled = true;
        for (const auto& server : servers) server->Cancel();
      }
      progress.Show(end.done);
    }
  }
  for (std::thread& thread : crowd) thread.join();
  end.seconds = progress.seconds();
  progress.Finish(end.done);
  return end;
}

}  // namespace sluice::evaluate
