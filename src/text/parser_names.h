#pragma once

#include <string>
#include <string_view>

namespace sluice::text {

// The parsers that answers are read with, by the names that users know them under; "none": none.
struct ParserNames {
  std::string tool_calls;  // "deepseekv32": ToolCallParser; "glm47": Glm47Parser
  std::string reasoning;   // "deepseek-v3", "glm45": ReasoningParser
};

// What the flags ask for, each "" or "auto" replaced by what a model of this architecture
// ("DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM") writes.
ParserNames ParsersOf(std::string_view architecture, const std::string& tool_calls,
                      const std::string& reasoning);

}  // namespace sluice::text
