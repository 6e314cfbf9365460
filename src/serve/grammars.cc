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
    : vocab_size_(vocab_size), compiler_(tokenizer, vocab_size), worker_([this] { Work(); }) {}

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

void Grammars::Make(AnswerConstraint constraint, std::shared_ptr<Exchange> exchange, Rest rest) {
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
    jobs_.push_back({std::move(constraint), std::move(exchange), std::move(rest)});
  }
  changed_.notify_all();
}

std::shared_ptr<const text::Grammar> Grammars::Compile(const AnswerConstraint& constraint) {
  try {
    std::shared_ptr<const text::Grammar> grammar;
    switch (constraint.kind) {
      case AnswerConstraint::Kind::kText:
        return nullptr;
      case AnswerConstraint::Kind::kJsonObject:
        grammar = compiler_.JsonObject();
        break;
      case AnswerConstraint::Kind::kJsonSchema:
        grammar = compiler_.JsonSchema(constraint.source);
        break;
      case AnswerConstraint::Kind::kRegex:
        grammar = compiler_.Regex(constraint.source);
        break;
      case AnswerConstraint::Kind::kCalls:
        grammar = compiler_.Calls(constraint.source);
        break;
    }
    std::vector<uint32_t> mask(static_cast<std::size_t>((vocab_size_ + 31) / 32));
    if (!text::GrammarState(grammar).Fill(mask).text) {
      Fail(ErrorKind::kBadRequest, "it allows no answer but an empty one: loosen it or leave it out");
    }
    return grammar;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kBadRequest) throw;
    throw ApiError(Refusal::kInvalidValue, fmt::format("{}: {}", constraint.param, error.what()),
                   constraint.param);
  }
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
      grammar = Compile(job.constraint);
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
