#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "serve/api_request.h"
#include "serve/exchange.h"
#include "text/grammar.h"

namespace sluice::serve {

// Compiles the grammars of requests on a thread of its own: one can take a second, and the threads that serve
// connections do not stand still meanwhile.
class Grammars {
 public:
  // `tokenizer` must outlive it.
  Grammars(const text::Tokenizer& tokenizer, int64_t vocab_size);
  ~Grammars();

  // Waits for the compilation under way; the others do not come to it, and With refuses from now on
  // (kDraining). Before the exchanges go.
  void Stop();

  // Puts the grammar of `request` into it and runs `rest`: at once when it asks for none, else in a task of
  // the exchange. What the compilation or `rest` throws becomes the answer; kQueueFull when too many wait.
  template <typename Request>
  void With(Request request, const std::shared_ptr<Exchange>& exchange, std::function<void(Request)> rest) {
    if (request.constraint.kind == AnswerConstraint::Kind::kText) return rest(std::move(request));
    const AnswerConstraint constraint = request.constraint;
    auto kept = std::make_shared<Request>(std::move(request));
    Make(constraint, exchange, [kept, rest = std::move(rest)](std::shared_ptr<const text::Grammar> grammar) {
      kept->grammar = std::move(grammar);
      rest(std::move(*kept));
    });
  }

 private:
  using Rest = std::function<void(std::shared_ptr<const text::Grammar>)>;
  struct Job {
    AnswerConstraint constraint;
    std::shared_ptr<Exchange> exchange;
    Rest rest;
  };
  void Make(AnswerConstraint constraint, std::shared_ptr<Exchange> exchange, Rest rest);
  void Work();
  std::shared_ptr<const text::Grammar> Compile(const AnswerConstraint& constraint);

  const int64_t vocab_size_;
  text::GrammarCompiler compiler_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread worker_;
};

}  // namespace sluice::serve
