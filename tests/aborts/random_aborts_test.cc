#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <random>

#include "abort_world.h"

// Many short requests at once, most of them aborted at a moment drawn at random: on arrival, after some event
// of their own or of others, twice, or when they have just ended. No page is lost; those that finish have the
// answer of a fresh engine, and those that do not have its beginning.
namespace sluice::aborts {
namespace {

constexpr int64_t kPages = 12;
constexpr int64_t kOutstanding = 16;
constexpr int64_t kRunning = 8;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoll(text, nullptr, 10) : otherwise;
}

struct Known {
  engine::Request request;
  std::vector<int32_t> tokens;
  std::vector<uint32_t> bits;
};

// Each alone in an engine that has done nothing before.
std::vector<Known> FreshAnswers(const parallel::Grid& grid) {
  std::vector<Known> pool;
  for (const int64_t prompt : {1, 5, 64, 90}) {
    for (const int64_t max_tokens : {0, 1, 5}) {
      Known known{RequestOf(prompt, max_tokens, pool.size() + 1), {}, {}};
      const auto engine = StartEngine(grid, {.chunk_rows = 100000, .max_running = 1}, kPages, 1, {});
      const auto answer = Answer::Make();
      engine->Submit(known.request, answer->sink());
      SLUICE_CHECK(answer->AwaitEnd());
      known.tokens = answer->tokens();
      known.bits = answer->bits();
      pool.push_back(std::move(known));
    }
  }
  return pool;
}

template <typename T>
bool Begins(const std::vector<T>& whole, const std::vector<T>& beginning) {
  return beginning.size() <= whole.size() && std::equal(beginning.begin(), beginning.end(), whole.begin());
}

class Crowd {
 public:
  Crowd(const parallel::Grid& grid, const std::vector<Known>& pool, std::mt19937_64& random)
      : pool_(pool),
        random_(random),
        engine_(StartEngine(grid, {.chunk_rows = 24, .max_running = kRunning}, kPages, 8, {})) {}

  void Run(int64_t aborts) {
    while (aborted_ < aborts && !testing::Test::HasFailure()) {
      while (std::ssize(clients_) < kOutstanding) Submit();
      HandleEvent();
      if (random_() % 4 == 0) Abort(std::next(clients_.begin(), random_() % clients_.size())->second);
    }
    while (!clients_.empty() && !testing::Test::HasFailure()) HandleEvent();
    EXPECT_TRUE(AwaitIdle(*engine_)) << engine_->Load().used_tokens << " tokens of the cache are lost";
  }

  int64_t aborted() const { return aborted_; }
  int64_t finished() const { return finished_; }
  int64_t too_late() const { return too_late_; }  // finished, though the abort had been asked for

 private:
  struct Client {
    engine::RequestId id = 0;
    const Known* known = nullptr;
    std::shared_ptr<Answer> answer;
    int64_t events_to_abort = -1;  // counts down; -1: not by its own events
    bool abort_asked = false;
  };

  void Submit() {
    const uint64_t number = next_number_++;
    Client& client = clients_[number];
    client.known = &pool_[random_() % pool_.size()];
    client.answer = Answer::Make();
    client.id = engine_->Submit(client.known->request,
                                [this, number, sink = client.answer->sink()](engine::Event event) {
                                  sink(std::move(event));
                                  std::lock_guard lock(mutex_);
                                  events_.push_back(number);
                                  came_.notify_all();
                                });
    const uint64_t plan = random_() % 8;
    if (plan == 0) Abort(client);
    if (plan == 1 || plan == 2) client.events_to_abort = 1 + static_cast<int64_t>(random_() % 4);
  }

  void Abort(Client& client) {
    client.abort_asked = true;
    for (uint64_t times = 1 + random_() % 2; times > 0; --times) engine_->Abort(client.id);
  }

  void HandleEvent() {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(came_.wait_for(lock, std::chrono::minutes(1), [this] { return !events_.empty(); }))
        << "no request makes progress";
    const auto found = clients_.find(events_.front());
    events_.pop_front();
    lock.unlock();
    if (found == clients_.end()) return;  // an event before the last, which was handled first
    Client& client = found->second;
    const auto finish = client.answer->finish();
    if (client.events_to_abort > 0 && --client.events_to_abort == 0) Abort(client);
    if (!finish.has_value()) return;
    const bool aborted = finish == engine::FinishReason::kAbort;
    EXPECT_TRUE(aborted ? client.abort_asked : finish == engine::FinishReason::kLength);
    const auto tokens = client.answer->tokens();
    const auto bits = client.answer->bits();
    EXPECT_TRUE(aborted ? Begins(client.known->tokens, tokens) : tokens == client.known->tokens);
    EXPECT_TRUE(aborted ? Begins(client.known->bits, bits) : bits == client.known->bits)
        << "log-probabilities differ in bits";
    aborted_ += aborted ? 1 : 0;
    finished_ += aborted ? 0 : 1;
    too_late_ += !aborted && client.abort_asked ? 1 : 0;
    clients_.erase(found);
  }

  const std::vector<Known>& pool_;
  std::mt19937_64& random_;
  std::map<uint64_t, Client> clients_;  // that have not ended
  uint64_t next_number_ = 0;
  int64_t aborted_ = 0;
  int64_t finished_ = 0;
  int64_t too_late_ = 0;

  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<uint64_t> events_;
  std::unique_ptr<engine::LocalEngine> engine_;  // last: its thread calls the sinks until it ends
};

TEST(RandomAborts, LoseNoPageAndLeaveTheOneAnswer) {
  const int64_t aborts = FromEnvironment("SLUICE_ABORTS", 2000);
  const int64_t seed = FromEnvironment("SLUICE_ABORT_SEED", 1);
  fmt::print(stderr, "{} aborts (SLUICE_ABORTS), seed {} (SLUICE_ABORT_SEED)\n", aborts, seed);
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  // Stages, lanes, head groups, virtual stages.
  const parallel::Grid grids[] = {{3, 2, 1, 1}, {1, 1, 1, 1}, {2, 2, 1, 2}, {2, 2, 2, 1}, {4, 1, 1, 1}};
  for (const parallel::Grid& grid : grids) {
    SCOPED_TRACE(fmt::format("pp {} tp {} attention tp {} v {}", grid.stages, grid.lanes, grid.attn_tp,
                             grid.virtual_stages));
    const std::vector<Known> pool = FreshAnswers(grid);
    Crowd crowd(grid, pool, random);
    crowd.Run(aborts / std::ssize(grids));
    if (HasFailure()) return;
    fmt::print(stderr,
               "pp {} tp {} attention tp {} v {}: {} aborted, {} finished, {} of them in spite of an abort\n",
               grid.stages, grid.lanes, grid.attn_tp, grid.virtual_stages, crowd.aborted(), crowd.finished(),
               crowd.too_late());
    EXPECT_GT(crowd.finished(), crowd.aborted() / 10);
  }
}

}  // namespace
}  // namespace sluice::aborts
