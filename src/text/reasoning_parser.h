#pragma once

#include <string>
#include <string_view>

namespace sluice::text {

// Splits the answer of a model that reasons first ("deepseek-v3"): the text before the first </think>,
// without a leading <think>, is reasoning, the rest content. Without </think> all is reasoning. The mark is
// held back while it may be coming. The sums of the pieces do not depend on where the text was cut.
class ReasoningParser {
 public:
  struct Piece {
    std::string reasoning{};
    std::string content{};
  };

  // An answer that does not begin inside reasoning is content altogether.
  explicit ReasoningParser(bool begins_inside) : state_(begins_inside ? State::kStart : State::kContent) {}

  Piece Push(std::string_view text);
  Piece Finish();

  bool reasoning() const { return state_ != State::kContent; }

 private:
  enum class State { kStart, kReasoning, kContent };

  State state_;
  std::string held_;
};

}  // namespace sluice::text
