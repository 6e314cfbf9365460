#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <bit>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_maker.h"
#include "engine/local_engine.h"

namespace sluice::engine {

// What a request's sink has seen.
class Answer {
 public:
  EventSink sink() {
    return [this](Event event) {
      std::lock_guard lock(mutex_);
      tokens_.insert(tokens_.end(), event.tokens.begin(), event.tokens.end());
      for (const TokenLogprobs& of : event.logprobs) bits_.push_back(std::bit_cast<uint32_t>(of.logprob));
      if (!event.prompt_logprobs.empty()) prompt_logprobs_ = event.prompt_logprobs.size();
      for (const TokenLogprobs& of : event.prompt_logprobs)
        bits_.push_back(std::bit_cast<uint32_t>(of.logprob));
      progress_.push_back(event.prompt_tokens_done);
      cached_ = event.cached_tokens;
      if (event.finish.has_value()) last_ = event;
      changed_.notify_all();
    };
  }
  // The last event; a minute is enough for it.
  Event Last() {
    std::unique_lock lock(mutex_);
    SLUICE_CHECK(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return last_.has_value(); }));
    return *last_;
  }
  void AwaitProgress(int64_t prompt_tokens) {
    std::unique_lock lock(mutex_);
    SLUICE_CHECK(changed_.wait_for(lock, std::chrono::minutes(1),
                                   [&] { return !progress_.empty() && progress_.back() >= prompt_tokens; }));
  }
  void AwaitTokens(size_t count) {
    std::unique_lock lock(mutex_);
    SLUICE_CHECK(changed_.wait_for(lock, std::chrono::minutes(1), [&] { return tokens_.size() >= count; }));
  }
  std::vector<int32_t> tokens() { return Locked(tokens_); }
  // Of every log-probability there was.
  std::vector<uint32_t> bits() { return Locked(bits_); }
  size_t prompt_logprobs() { return Locked(prompt_logprobs_); }
  // prompt_tokens_done of every event.
  std::vector<int64_t> progress() { return Locked(progress_); }
  int64_t cached() { return Locked(cached_); }

 private:
  template <typename T>
  T Locked(const T& value) {
    std::lock_guard lock(mutex_);
    return value;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> bits_;
  size_t prompt_logprobs_ = 0;
  std::vector<int64_t> progress_;
  int64_t cached_ = -1;
  std::optional<Event> last_;
};

// A tiny random model in a folder of its own.
class SmallModelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-engine-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    checkpoint::MakeOptions options;
    options.format = checkpoint::WeightFormat::kF32;
    options.config_overrides = {"hidden_size=128", "num_hidden_layers=2", "num_attention_heads=2",
                                "vocab_size=300", "intermediate_size=128"};
    checkpoint::MakeCheckpoint(directory_ / "model", options, checkpoint::PlanCheckpoint(options), {});
    checkpoint_ = checkpoint::Checkpoint::Open(directory_ / "model");
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint_;
};

// An engine of two stages of two lanes over it, with a cache of 1,280 tokens and chunks of 32.
class SmallEngineTest : public SmallModelTest {
 protected:
  void SetUp() override {
    SmallModelTest::SetUp();
    engine_ = Start({.chunk_rows = 32});
  }
  void TearDown() override {
    engine_.reset();
    SmallModelTest::TearDown();
  }

  std::unique_ptr<LocalEngine> Start(const EngineOptions& options, comm::FaultPlan faults = {}) {
    JobSettings settings;
    settings.fault_plan = std::move(faults);
    settings.grid = {2, 2};
    settings.cache_pages = 20;
    return std::make_unique<LocalEngine>(settings, options, checkpoint_->config(), checkpoint_->is_fp8(),
                                         StartThreadRanks(settings, checkpoint_, {}));
  }

  static Request RequestOf(size_t prompt, int64_t max_tokens) {
    Request request;
    for (size_t i = 0; i < prompt; ++i) request.prompt.push_back(static_cast<int32_t>(i * 31 % 300));
    request.max_tokens = max_tokens;
    request.temperature = 0.0F;
    return request;
  }

  std::unique_ptr<LocalEngine> engine_;
};

}  // namespace sluice::engine
