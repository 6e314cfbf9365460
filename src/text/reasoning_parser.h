#pragma once

#include <string>
#include <string_view>

namespace sluice::text {

// Splits the answer of a model that reasons first ("deepseek-v3", "glm45"): the text before the first
// </think>, without a leading <think>, is reasoning, the rest content. Without </think> all is reasoning. A
// mark is held back while it may be coming. The sums of the pieces do not depend on where the text was cut.
class ReasoningParser {
 public:
  struct Piece {
    std::string reasoning{};
    std::string content{};
  };

  // An answer that does not begin inside reasoning is content altogether. `call`, if not empty, ends
  // reasoning as well and is part of the content: GLM makes calls without having closed its reasoning. A
  // constant.
  explicit ReasoningParser(bool begins_inside, std::string_view call = {})
      : state_(begins_inside ? State::kStart : State::kContent), call_(call) {}

  Piece Push(std::string_view text);
  Piece Finish();

  bool reasoning() const { return state_ != State::kContent; }
  // Whether a call ended the reasoning.
  bool ended_by_call() const { return ended_by_call_; }

 private:
  enum class State { kStart, kReasoning, kContent };

  State state_;
  std::string_view call_;
  bool ended_by_call_ = false;
  std::string held_;
};

}  // namespace sluice::text
