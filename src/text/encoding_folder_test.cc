#include "text/encoding_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "text/deepseek_v32_texts.h"
#include "text/test_support.h"

namespace sluice::text {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EncodingFolderTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(checkpoint_); }
  void Write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(checkpoint_ / "encoding");
    std::ofstream(checkpoint_ / "encoding" / name, std::ios::binary) << text;
  }
  // As the official file has it, with names in the place of fixed parts.
  static std::string Tools() {
    std::string text(kDeepSeekV32ToolsText);
    for (std::size_t at; (at = text.find(kDsml)) != std::string::npos;) {
      text.replace(at, kDsml.size(), "{dsml_token}");
    }
    text.replace(text.find("<think>"), 7, "{thinking_start_token}");
    text.replace(text.find("</think>"), 8, "{thinking_end_token}");
    return fmt::format("import json\n\nTOOLS_SYSTEM_TEMPLATE = \"\"\"{}\"\"\"\n", text);
  }

  std::filesystem::path checkpoint_ =
      std::filesystem::path(::testing::TempDir()) / ("sluice_encoding_" + std::to_string(::getpid()));
};

TEST_F(EncodingFolderTest, NothingIsSaidOfEqualTextsOrNoFolder) {
  EXPECT_THAT(CompareEncodingFolder(checkpoint_), IsEmpty());
  Write("encoding_dsv32.py",
        Tools() +
            "bos_token: str = \"<｜begin▁of▁sentence｜>\"\ndsml_token: str = '｜DSML｜'\n"
            "response_format_template: str = \"## Response Format:\\n\\nYou MUST strictly "
            "adhere to the following schema to reply:\\n{schema}\"\n"
            "bos_token_of_another = \"x\"\n  eos_token = \"not at the beginning\"\n");
  Write("notes.txt", "eos_token = \"x\"\n");
  EXPECT_THAT(CompareEncodingFolder(checkpoint_), IsEmpty());
}

TEST_F(EncodingFolderTest, ADifferenceIsSaidWithItsLine) {
  std::string tools = Tools();
  tools.insert(tools.find("## Tools\n") + 9, 1, '\n');
  Write("encoding_dsv32.py", tools + "eos_token: str = \"<end>\"\n");
  EXPECT_THAT(
      CompareEncodingFolder(checkpoint_),
      ElementsAre(AllOf(HasSubstr("encoding/encoding_dsv32.py: TOOLS_SYSTEM_TEMPLATE is not the text"),
                        HasSubstr("line 2 is \"\" there and \"You have access")),
                  AllOf(HasSubstr("eos_token is not"), HasSubstr("line 1 is \"<end>\" there"))));
}

TEST_F(EncodingFolderTest, AFolderWithoutTheTextIsSaid) {
  Write("other.py", "print(1)\n");
  EXPECT_THAT(CompareEncodingFolder(checkpoint_), ElementsAre(HasSubstr("no Python file there assigns")));
}

}  // namespace
}  // namespace sluice::text
