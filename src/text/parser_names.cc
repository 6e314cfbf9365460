#include "text/parser_names.h"

namespace sluice::text {

ParserNames ParsersOf(std::string_view architecture, const std::string& tool_calls,
                      const std::string& reasoning) {
  ParserNames names{"none", "none"};
  if (architecture == "DeepseekV32ForCausalLM") names = {"deepseekv32", "deepseek-v3"};
  if (architecture == "GlmMoeDsaForCausalLM") names = {"glm47", "glm45"};
  if (!tool_calls.empty() && tool_calls != "auto") names.tool_calls = tool_calls;
  if (!reasoning.empty() && reasoning != "auto") names.reasoning = reasoning;
  return names;
}

}  // namespace sluice::text
