#pragma once

#include <string>
#include <vector>

namespace sluice::text {

// One call of a tool by the model.
struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object

  bool operator==(const ToolCall&) const = default;
};

// One message of a conversation. An absent (null) content or reasoning is the empty string.
struct ChatMessage {
  std::string role{};                  // system, developer, user, assistant or tool
  std::string content{};               // UTF-8, written into the prompt as it is
  std::string reasoning_content{};     // assistant only: what stood before </think>
  std::vector<ToolCall> tool_calls{};  // assistant only
  // System and developer only: the functions that may be called, each one JSON object (the inner `function`
  // of OpenAI's tool), and the JSON schema of the answer, if it has one. Rewritten by PythonJson.
  std::vector<std::string> tools{};
  std::string response_format{};
  // Assistant only: a reasoning_content that is there and empty, which a template may tell from an absent
  // one.
  bool empty_reasoning = false;
};

}  // namespace sluice::text
