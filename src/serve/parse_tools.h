#pragma once

#include <string>
#include <vector>

#include "serve/api_request.h"
#include "serve/field_reader.h"

namespace sluice::serve {

// One message of a chat, with what joins calls and their results.
struct Turn {
  text::ChatMessage message{};
  std::vector<std::string> call_ids{};  // of message.tool_calls; empty texts where the client has none
  std::string result_of{};              // tool: the id of the call; empty: none given
};

// An assistant's `tool_calls`.
void ParseToolCalls(FieldReader& message, Turn& turn, std::vector<std::string>& ignored);

// The model knows results by their place alone: those that name their calls are put into the order of the
// calls. kInvalidValue when a turn with calls is not followed by one result for each, or a result names none
// of them.
void OrderToolResults(std::vector<Turn>& turns);

// `tools`, `tool_choice` and `parallel_tool_calls`, into a request that has its messages.
void ParseTools(FieldReader& fields, ChatRequest& request);

}  // namespace sluice::serve
