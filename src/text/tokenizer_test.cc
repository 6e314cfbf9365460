#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "text/byte_level.h"
#include "text/test_support.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

using Ids = std::vector<int32_t>;
using OrderedJson = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Ids 0..255 are the bytes; 256.. "ab", "bc", "abc", " a"; then the added tokens.
OrderedJson SmallFile() {
  OrderedJson vocab = OrderedJson::object();
  for (int byte = 0; byte < 256; ++byte)
    vocab[std::string(AlphabetCharacter(static_cast<unsigned char>(byte)))] = byte;
  int next = 256;
  for (const char* token : {"ab", "bc", "abc", "Ġa"}) vocab[token] = next++;
  const auto added = [&](const char* content, bool special, bool normalized) {
    return OrderedJson{{"id", next++},    {"content", content}, {"single_word", false},    {"lstrip", false},
                       {"rstrip", false}, {"special", special}, {"normalized", normalized}};
  };
  OrderedJson tokens = {added("<s>", true, false), added("<s>>", true, false), added("s><", false, true),
                        added("｜中｜", false, false)};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", tokens},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "b c", "ab c", "Ġ a"}}}}};
}

std::unique_ptr<Tokenizer> Load(const OrderedJson& json) {
  return Tokenizer::Load(ScratchFile(json.dump()).path());
}

std::string RefusedFile(const OrderedJson& json) {
  return Refusal(ErrorKind::kModelFiles, [&] { Load(json); });
}

TEST(Tokenizer, MergesInOrderOfRank) {
  const auto tokenizer = Load(SmallFile());
  EXPECT_EQ(tokenizer->Encode("abc"), (Ids{258}));
  EXPECT_EQ(tokenizer->Encode("bcab"), (Ids{257, 256}));
  EXPECT_EQ(tokenizer->Encode(" abc"), (Ids{' ', 258}));
  EXPECT_EQ(tokenizer->Encode(" a"), (Ids{259}));
  EXPECT_EQ(tokenizer->Encode(""), (Ids{}));
  EXPECT_EQ(tokenizer->Encode("é"), (Ids{0xC3, 0xA9}));
}

TEST(Tokenizer, MergesAsListsAreTheSame) {
  OrderedJson json = SmallFile();
  json["model"]["merges"] = OrderedJson::parse(R"([["a","b"],["b","c"],["ab","c"],["Ġ","a"]])");
  EXPECT_EQ(Load(json)->Encode("bcab abc"), (Ids{257, 256, ' ', 258}));
}

TEST(Tokenizer, IgnoreMergesTakesAWholePieceAsItIs) {
  OrderedJson json = SmallFile();
  json["model"]["vocab"]["xyz"] = 264;
  EXPECT_EQ(Load(json)->Encode("xyz"), (Ids{'x', 'y', 'z'}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(Load(json)->Encode("xyz"), (Ids{264}));
  EXPECT_EQ(Load(json)->Encode("xyzx"), (Ids{'x', 'y', 'z', 'x'}));
}

TEST(Tokenizer, AddedTokens) {
  const auto tokenizer = Load(SmallFile());
  EXPECT_EQ(tokenizer->Encode("<s>ab"), (Ids{260, 256}));
  EXPECT_EQ(tokenizer->Encode("<s>>"), (Ids{261})) << "the longest of those that begin together";
  EXPECT_EQ(tokenizer->Encode("x<s><"), (Ids{'x', 260, '<'})) << "tokens that are not normalized come first";
  EXPECT_EQ(tokenizer->Encode("xs><"), (Ids{'x', 262}));
  EXPECT_EQ(tokenizer->Encode("<s"), (Ids{'<', 's'}));
  EXPECT_EQ(tokenizer->Encode("｜中｜").size(), 1U);
  EXPECT_EQ(tokenizer->Encode("<s>", false), (Ids{'<', 's', '>'}));
  EXPECT_EQ(tokenizer->TokenId("<s>"), 260);
  EXPECT_EQ(tokenizer->TokenId(" a"), 259);
  EXPECT_EQ(tokenizer->TokenId("nothing"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(260));
  EXPECT_FALSE(tokenizer->IsSpecial(262));
  EXPECT_FALSE(tokenizer->IsSpecial('a'));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_FALSE(tokenizer->IsSpecial(1000));
  EXPECT_EQ(tokenizer->vocab_size(), 264);
}

TEST(Tokenizer, DecodesBytesAndRepairsThem) {
  const auto tokenizer = Load(SmallFile());
  EXPECT_EQ(tokenizer->Decode(Ids{260, 258, 259, 263}), "<s>abc a｜中｜");
  EXPECT_EQ(tokenizer->Decode(Ids{260, 258, 259, 263}, true), "abc a｜中｜");
  EXPECT_EQ(tokenizer->Decode(Ids{0xE4, 0xB8, 0xAD, 0xE4, 0xB8}), "中\uFFFD");
  EXPECT_EQ(tokenizer->Decode(Ids{0xE4, 'a', 0x80}), "\uFFFDa\uFFFD");
  EXPECT_EQ(tokenizer->Decode(Ids{-5, 'a', 264, 1 << 30}), "a");
  EXPECT_EQ(tokenizer->TokenBytes(0xE4), "\xE4");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
}

TEST(Tokenizer, BytesThatAreNotUtf8AreReplacedBeforeEncoding) {
  const auto tokenizer = Load(SmallFile());
  EXPECT_EQ(tokenizer->Encode("a\xE4\xB8"), (Ids{'a', 0xEF, 0xBF, 0xBD}));
  EXPECT_EQ(tokenizer->Encode("\xFF"), tokenizer->Encode("\uFFFD"));
}

// Characters of all planes, mixed with letters, spaces and the added tokens.
TEST(Tokenizer, DecodingAnEncodingGivesTheTextBack) {
  const auto tokenizer = Tokenizer::Load(GoldenFolder() / "fixture.json");
  std::mt19937 random(17);
  constexpr std::array<std::string_view, 6> kTexts = {"<think>", "<note", "book>", " the ", "\r\n\n", "2026"};
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (auto n = random() % 20; n > 0; --n) {
      const auto kind = random() % 4;
      const unsigned long limit = kind == 0 ? 0x80 : kind == 1 ? 0x3000 : 0x110000;
      const auto c = static_cast<char32_t>(random() % limit);
      if (kind == 3 || (c >= 0xD800 && c < 0xE000)) {
        text += kTexts[random() % kTexts.size()];
      } else {
        AppendUtf8(c, text);
      }
    }
    ASSERT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
    ASSERT_EQ(tokenizer->Decode(tokenizer->Encode(text, false)), text);
  }
}

TEST(Tokenizer, ThreadsAgree) {
  const auto tokenizer = Tokenizer::Load(GoldenFolder() / "fixture.json");
  const std::string text = ReadWhole(GoldenFolder() / "strings.jsonl").substr(0, 100000);
  const Ids wanted = tokenizer->Encode(text);
  std::array<Ids, 4> found;
  std::vector<std::thread> threads;
  for (Ids& ids : found) threads.emplace_back([&] { ids = tokenizer->Encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, wanted);
}

// Each change makes a file that sluice must not read as if it understood it. The message names the place.
TEST(Tokenizer, RefusesWhatItDoesNotUnderstand) {
  const OrderedJson null = nullptr;
  const OrderedJson split = {
      {"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const OrderedJson byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const auto sequence = [](const OrderedJson& steps) {
    return OrderedJson{{"type", "Sequence"}, {"pretokenizers", steps}};
  };
  const auto changed = [](OrderedJson json, const char* key, const OrderedJson& value) {
    return json[key] = value, json;
  };
  const struct {
    const char* pointer;  // what is changed
    OrderedJson value;
    const char* place;  // what the message names
  } kCases[] = {
      {"/version", "2.0", "version"},
      {"/truncation", {{"max_length", 5}}, "truncation"},
      {"/padding", {{"strategy", "BatchLongest"}}, "padding"},
      {"/normalizer", {{"type", "NFC"}}, "normalizer.type"},
      {"/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}}, "normalizer.normalizers"},
      {"/pre_tokenizer", null, "pre_tokenizer"},
      {"/pre_tokenizer", {{"type", "Whitespace"}}, "pre_tokenizer.type"},
      {"/pre_tokenizer/add_prefix_space", true, "pre_tokenizer.add_prefix_space"},
      {"/pre_tokenizer", sequence(OrderedJson::array()), "pre_tokenizer.pretokenizers"},
      {"/pre_tokenizer", sequence(OrderedJson::array({split})), "pre_tokenizer.pretokenizers[0].type"},
      {"/pre_tokenizer", sequence({byte_level, split}), "pre_tokenizer.pretokenizers[0].type"},
      {"/pre_tokenizer", sequence({changed(split, "behavior", "Removed"), byte_level}),
       "pre_tokenizer.pretokenizers[0].behavior"},
      {"/pre_tokenizer", sequence({changed(split, "invert", true), byte_level}),
       "pre_tokenizer.pretokenizers[0].invert"},
      {"/pre_tokenizer", sequence({changed(split, "pattern", {{"String", "a"}}), byte_level}),
       "pre_tokenizer.pretokenizers[0].pattern.String"},
      {"/pre_tokenizer", sequence({changed(split, "pattern", {{"Regex", "\\w"}}), byte_level}),
       "pre_tokenizer.pretokenizers[0].pattern.Regex"},
      {"/post_processor", {{"type", "TemplateProcessing"}}, "post_processor.type"},
      {"/decoder", null, "decoder"},
      {"/decoder/type", "Metaspace", "decoder.type"},
      {"/model/type", "Unigram", "model.type"},
      {"/model/dropout", 0.1, "model.dropout"},
      {"/model/unk_token", "<unk>", "model.unk_token"},
      {"/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"},
      {"/model/byte_fallback", true, "model.byte_fallback"},
      {"/model/surprise", 1, "model.surprise"},
      {"/surprise", 1, "surprise"},
      {"/model/vocab/ab", 255, "model.vocab.ab"},
      {"/model/vocab/ab", -1, "model.vocab.ab"},
      {"/model/vocab/ab", 1.5, "model.vocab.ab"},
      {"/model/vocab/ab", 16777216, "model.vocab.ab"},
      {"/model/vocab", OrderedJson::array(), "model.vocab"},
      {"/model/vocab", null, "model.vocab"},
      {"/model/merges/2", "ab", "model.merges[2]"},
      {"/model/merges/2", "a b c", "model.merges[2]"},
      {"/model/merges/2", 7, "model.merges[2]"},
      {"/model/merges/2", {"a", "b", "c"}, "model.merges[2]"},
      {"/model/merges/2", "c a", "model.merges[2]"},
      {"/model/merges/2", "a b", "model.merges[2]"},
      {"/added_tokens/0/lstrip", true, "added_tokens[0].lstrip"},
      {"/added_tokens/0/rstrip", true, "added_tokens[0].rstrip"},
      {"/added_tokens/0/single_word", true, "added_tokens[0].single_word"},
      {"/added_tokens/0/content", "", "added_tokens[0].content"},
      {"/added_tokens/1/content", "<s>", "added_tokens[1].content"},
      {"/added_tokens/0/content", "abc", "added_tokens[0].id"},
      {"/added_tokens/0/id", 97, "added_tokens[0].id"},
      {"/added_tokens/1/id", 260, "added_tokens[1].id"},
      {"/added_tokens/0/special", "yes", "added_tokens[0].special"},
  };
  for (const auto& [pointer, value, place] : kCases) {
    OrderedJson json = SmallFile();
    json[OrderedJson::json_pointer(pointer)] = value;
    const std::string message = RefusedFile(json);
    EXPECT_THAT(message, HasSubstr(fmt::format(".json: {}", place))) << pointer << " = " << value;
    EXPECT_THAT(message, HasSubstr("upported")) << pointer;
  }
}

TEST(Tokenizer, RefusesFilesThatAreNoTokenizer) {
  EXPECT_THAT(Refusal(ErrorKind::kModelFiles, [] { Tokenizer::Load("/nowhere/tokenizer.json"); }),
              StartsWith("/nowhere/tokenizer.json: cannot be read as JSON"));
  for (const char* content : {"", "{", "[1]", "{}", "\xFF", "nul"}) {
    const ScratchFile file(content);
    EXPECT_THAT(Refusal(ErrorKind::kModelFiles, [&] { Tokenizer::Load(file.path()); }),
                StartsWith(file.path().string()))
        << content;
  }
  OrderedJson json = SmallFile();
  json["model"]["vocab"].erase("Ġ");
  json["model"]["merges"].erase(3);
  EXPECT_THAT(RefusedFile(json), HasSubstr("no token 'Ġ' for byte 0x20"));
}

}  // namespace
}  // namespace sluice::text
