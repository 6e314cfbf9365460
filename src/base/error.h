#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace sluice {

// Why something was refused. Each kind is one documented exit code of the program (docs/exit-codes.md)
// and one family of HTTP answers.
enum class ErrorKind {
  kUsage,       // a flag or a combination of flags; exit 2
  kModelFiles,  // a checkpoint directory, a file or tensor in it; exit 3
  kMemory,      // the memory plan does not fit; exit 4
  kRankLost,    // a rank died, stalled or spoke out of turn; exit 5
  kNetwork,     // an address that cannot be bound or reached; exit 6
  kBadRequest,  // a client's request; HTTP 4xx
  kOverloaded,  // too many requests wait; HTTP 503
  kInternal,    // our bug; exit 70
};

// The one exception type of the project. The message is a whole sentence that names the input, the limit
// and the remedy; it is shown to the user as it is.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& sentence) : std::runtime_error(sentence), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Throws Error(kind) with the formatted sentence.
template <typename... Args>
[[noreturn]] void Fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace sluice

// An invariant of our own code: a failure is our bug, never a user's. Always on; the condition must be cheap.
#define SLUICE_CHECK(condition, ...)                                                                        \
  do {                                                                                                      \
    if (!(condition)) [[unlikely]] {                                                                        \
      ::sluice::Fail(::sluice::ErrorKind::kInternal, "{}:{}: invariant broken: {}. {}", __FILE__, __LINE__, \
                     #condition, ::fmt::format("" __VA_ARGS__));                                            \
    }                                                                                                       \
  } while (false)
