#include "text/glm_texts.h"

namespace sluice::text {

const std::string_view kGlmToolsBefore = R"(
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
)";

const std::string_view kGlmToolsBehind = R"(</tools>

For each function call, output the function name and arguments within the following XML format:
)"
                                         "<tool_call>{function-name}"
                                         "<arg_key>{arg-key-1}</arg_key><arg_value>{arg-value-1}</arg_value>"
                                         "<arg_key>{arg-key-2}</arg_key><arg_value>{arg-value-2}</arg_value>"
                                         "...</tool_call>";

}  // namespace sluice::text
