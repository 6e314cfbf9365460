#include "text/parser_names.h"

#include <gtest/gtest.h>

namespace sluice::text {
namespace {

TEST(ParserNames, TheArchitectureChoosesUnlessAFlagDoes) {
  const ParserNames chosen = ParsersOf("DeepseekV32ForCausalLM", "", "auto");
  EXPECT_EQ(chosen.tool_calls, "deepseekv32");
  EXPECT_EQ(chosen.reasoning, "deepseek-v3");
  const ParserNames none = ParsersOf("DeepseekV32ForCausalLM", "none", "none");
  EXPECT_EQ(none.tool_calls, "none");
  EXPECT_EQ(none.reasoning, "none");
  const ParserNames glm = ParsersOf("GlmMoeDsaForCausalLM", "auto", "");
  EXPECT_EQ(glm.tool_calls, "glm47");
  EXPECT_EQ(glm.reasoning, "glm45");
  EXPECT_EQ(ParsersOf("AnotherForCausalLM", "", "deepseek-v3").tool_calls, "none");
  EXPECT_EQ(ParsersOf("AnotherForCausalLM", "", "deepseek-v3").reasoning, "deepseek-v3");
}

}  // namespace
}  // namespace sluice::text
