#include "serve/grammars.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "serve/errors.h"

namespace sluice::serve {
namespace {
constexpr std::size_t kMaxWaiting = 64;
}

Grammars::Grammars(const text::Tokenizer& tokenizer, int64_t vocab_size)
    : compiler_(tokenizer, vocab_size), worker_([this] { Work(); }) {}

Grammars::~Grammars() { Stop(); }

void Grammars::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    jobs_.clear();
  }
  changed_.notify_all();
  if (worker_.joinable()) worker_.join();
}

void Grammars::Make(AnswerFormat format, std::shared_ptr<Exchange> exchange, Rest rest) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      throw ApiError(Refusal::kDraining, "the server is shutting down; send the request again later");
    }
    if (jobs_.size() == kMaxWaiting) {
      throw ApiError(
          Refusal::kQueueFull,
          fmt::format("{} grammars wait to be compiled; send the request again later", kMaxWaiting));
    }
    jobs_.push_back({std::move(format), std::move(exchange), std::move(rest)});
  }
  changed_.notify_all();
}

std::shared_ptr<const text::Grammar> Grammars::Compile(const AnswerFormat& format) {
  try {
    switch (format.kind) {
      case AnswerFormat::Kind::kText:
        return nullptr;
      case AnswerFormat::Kind::kJsonObject:
        return compiler_.JsonObject();
      case AnswerFormat::Kind::kJsonSchema:
        return compiler_.JsonSchema(format.source);
      case AnswerFormat::Kind::kRegex:
        return compiler_.Regex(format.source);
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kBadRequest) throw;
    throw ApiError(Refusal::kInvalidValue, fmt::format("{}: {}", format.param, error.what()), format.param);
  }
  return nullptr;
}

void Grammars::Work() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    std::shared_ptr<const text::Grammar> grammar;
    std::optional<ApiError> refusal;
    try {
      grammar = Compile(job.format);
    } catch (const std::exception& exception) {
      refusal = ToApiError(exception);
    }
    const std::shared_ptr<Exchange> exchange = job.exchange;
    exchange->Post([exchange = exchange.get(), rest = std::move(job.rest), grammar = std::move(grammar),
                    refusal = std::move(refusal), hold = exchange] {
      if (refusal) return exchange->Respond(refusal->Response());
      try {
        rest(grammar);
      } catch (const std::exception& exception) {
        exchange->Respond(ToApiError(exception).Response());
      }
    });
  }
}

}  // namespace sluice::serve
