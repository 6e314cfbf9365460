#include "text/byte_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "text/test_support.h"
#include "text/tokenizer.h"

namespace sluice::text {
namespace {

TEST(ByteTokenizer, LoadsWithEveryIdAToken) {
  for (const int32_t vocab_size : {272, 512, 1024, 20000}) {
    const auto tokenizer = Tokenizer::Load(ScratchFile(ByteTokenizerJson(vocab_size)).path());
    EXPECT_EQ(tokenizer->vocab_size(), vocab_size);
    std::set<std::string_view> texts;
    for (int32_t id = 0; id < vocab_size; ++id) {
      EXPECT_FALSE(tokenizer->TokenBytes(id).empty()) << id;
      EXPECT_TRUE(texts.insert(tokenizer->TokenBytes(id)).second) << id;
      EXPECT_EQ(tokenizer->TokenId(tokenizer->TokenBytes(id)), id);
    }
  }
}

TEST(ByteTokenizer, IdsAreAsTheHeaderSays) {
  const auto tokenizer = Tokenizer::Load(ScratchFile(ByteTokenizerJson(512)).path());
  EXPECT_EQ(
      tokenizer->Encode(
          "<｜begin▁of▁sentence｜><｜end▁of▁sentence｜><｜User｜><｜Assistant｜><think></think>｜DSML｜"),
      (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6}));
  for (int32_t byte = 0; byte < 256; ++byte)
    EXPECT_EQ(tokenizer->TokenBytes(7 + byte)[0], static_cast<char>(byte));
  EXPECT_EQ(tokenizer->TokenBytes(263), " e");
  EXPECT_EQ(tokenizer->TokenBytes(264), " t");
  EXPECT_EQ(tokenizer->TokenBytes(263 + 26), "ee");
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_TRUE(tokenizer->IsSpecial(1));
  EXPECT_FALSE(tokenizer->IsSpecial(6));
  // " t" is joined before "he", the first merge of h, the eighth letter; digits have no merges.
  EXPECT_EQ(tokenizer->Encode(" the 2026"),
            (std::vector<int32_t>{264, 263 + 8 * 26, 7 + ' ', 7 + '2', 7 + '0', 7 + '2', 7 + '6'}));
}

// The fixture's patterns were copied from the real tokenizer.json by a program.
TEST(ByteTokenizer, PreTokenizerIsDeepSeeks) {
  const auto made = nlohmann::json::parse(ByteTokenizerJson(272));
  const auto real = nlohmann::json::parse(ReadWhole(GoldenFolder() / "fixture.json"));
  EXPECT_EQ(made["pre_tokenizer"], real["pre_tokenizer"]);
}

TEST(ByteTokenizer, GlmsIdsAreAsTheHeaderSays) {
  const auto tokenizer =
      Tokenizer::Load(ScratchFile(ByteTokenizerJson(512, {}, TokenizerFamily::kGlm)).path());
  EXPECT_EQ(tokenizer->vocab_size(), 512);
  const auto ids = tokenizer->Encode(
      "<|endoftext|>[MASK][gMASK][sMASK]<sop><eop><|system|><|user|><|assistant|><|observation|><think></"
      "think>"
      "<tool_call></tool_call><tool_response></tool_response><arg_key></arg_key><arg_value></arg_value>");
  ASSERT_EQ(ids.size(), 20U);
  for (int32_t id = 0; id < 20; ++id) {
    EXPECT_EQ(ids[static_cast<std::size_t>(id)], id);
    EXPECT_EQ(tokenizer->IsSpecial(id), id < 10) << id;
  }
  for (int32_t byte = 0; byte < 256; ++byte)
    EXPECT_EQ(tokenizer->TokenBytes(20 + byte)[0], static_cast<char>(byte));
  EXPECT_EQ(tokenizer->TokenBytes(276), " e");
  const auto config = nlohmann::json::parse(ByteTokenizerConfigJson(131072, TokenizerFamily::kGlm));
  EXPECT_TRUE(config["bos_token"].is_null());
  EXPECT_EQ(config["eos_token"], "<|endoftext|>");
  // The fixture's pattern is that of compare_live.py.
  const auto made = nlohmann::json::parse(ByteTokenizerJson(288, {}, TokenizerFamily::kGlm));
  const auto fixture = nlohmann::json::parse(ReadWhole(GoldenFolder() / "glm_fixture.json"));
  EXPECT_EQ(made["pre_tokenizer"], fixture["pre_tokenizer"]);
  EXPECT_THAT(Refusal(ErrorKind::kUsage, [] { ByteTokenizerJson(287, {}, TokenizerFamily::kGlm); }),
              ::testing::HasSubstr("288"));
}

TEST(ByteTokenizer, RefusesSizesThatCannotBe) {
  for (const int32_t vocab_size : {-1, 0, 271, (1 << 24) + 1}) {
    EXPECT_THAT(Refusal(ErrorKind::kUsage, [&] { ByteTokenizerJson(vocab_size); }),
                ::testing::HasSubstr("272"));
  }
}

TEST(ByteTokenizer, ConfigNamesTheSameTokens) {
  const auto config = nlohmann::json::parse(ByteTokenizerConfigJson(131072));
  EXPECT_EQ(config["bos_token"], "<｜begin▁of▁sentence｜>");
  EXPECT_EQ(config["eos_token"], "<｜end▁of▁sentence｜>");
  EXPECT_EQ(config["model_max_length"], 131072);
  EXPECT_EQ(config["add_bos_token"], false);
}

}  // namespace
}  // namespace sluice::text
