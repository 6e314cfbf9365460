// The vectors under tests/golden/tokenizer/, made by the Hugging Face tokenizers library (make_vectors.py
// there).
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdlib>
#include <sstream>

#include "text/detokenizer.h"
#include "text/test_support.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

std::string FromBase64(const std::string& text) {
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  const auto padding = static_cast<std::size_t>(text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0);
  bytes.resize(static_cast<std::size_t>(size) - padding);
  return bytes;
}

std::vector<std::string> GoldenStrings() {
  std::istringstream lines(ReadWhole(GoldenFolder() / "strings.jsonl"));
  std::vector<std::string> strings;
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    strings.push_back(json.is_string() ? json.get<std::string>() : FromBase64(json["base64"]));
  }
  return strings;
}

void CheckVectors(const Tokenizer& tokenizer, const nlohmann::json& vectors) {
  const std::vector<std::string> strings = GoldenStrings();
  ASSERT_GE(strings.size(), 10000U);
  ASSERT_EQ(strings.size(), vectors["strings"]);
  ASSERT_EQ(vectors["samples"].size(), 500U);
  for (const auto& sample : vectors["samples"]) {
    const std::string& text = strings[sample["index"].get<std::size_t>()];
    EXPECT_EQ(RepairUtf8(text), sample["text"]);
    EXPECT_EQ(tokenizer.Encode(text), sample["ids"].get<std::vector<int32_t>>()) << sample["text"];
  }
  std::string all;
  const std::string digests = vectors["digests"];
  for (std::size_t i = 0; i < strings.size(); ++i) {
    const std::vector<int32_t> ids = tokenizer.Encode(strings[i]);
    const std::string_view bytes(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t));
    EXPECT_EQ(Sha256(bytes).substr(0, 8), digests.substr(i * 8, 8)) << "string " << i << ": " << strings[i];
    const auto count = static_cast<uint32_t>(ids.size());
    all.append(reinterpret_cast<const char*>(&count), sizeof(count)).append(bytes);
    EXPECT_EQ(tokenizer.Decode(ids), RepairUtf8(strings[i])) << "string " << i;
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(strings[i], false)), RepairUtf8(strings[i]))
        << "string " << i;
    IncrementalDetokenizer detokenizer(tokenizer, false);
    std::string pieces;
    for (const int32_t id : ids) pieces += detokenizer.Push(id);
    EXPECT_EQ(pieces + detokenizer.Finish(), RepairUtf8(strings[i])) << "string " << i;
  }
  EXPECT_EQ(Sha256(all), vectors["sha256"]);
}

TEST(Golden, FixtureTokenizer) {
  const auto vectors = nlohmann::json::parse(ReadWhole(GoldenFolder() / "fixture_vectors.json"));
  CheckVectors(*Tokenizer::Load(GoldenFolder() / "fixture.json"), vectors);
}

// GLM's pre-tokenizer, ignore_merges, and marks of which some are special.
TEST(Golden, GlmTokenizer) {
  const auto vectors = nlohmann::json::parse(ReadWhole(GoldenFolder() / "glm_vectors.json"));
  const auto tokenizer = Tokenizer::Load(GoldenFolder() / "glm_fixture.json");
  CheckVectors(*tokenizer, vectors);
  ASSERT_EQ(vectors["marks"].size(), 400U);
  for (const auto& marks : vectors["marks"]) {
    const std::vector<int32_t> ids = tokenizer->Encode(marks["text"].get<std::string>());
    EXPECT_EQ(ids, marks["ids"].get<std::vector<int32_t>>()) << marks["text"];
    EXPECT_EQ(tokenizer->Decode(ids, true), marks["shown"]) << marks["text"];
  }
}

TEST(Golden, DeepSeekTokenizer) {
  const char* path = std::getenv("SLUICE_DEEPSEEK_TOKENIZER");
  if (path == nullptr) {
    GTEST_SKIP() << "SLUICE_DEEPSEEK_TOKENIZER does not name the real tokenizer.json";
  }
  const auto vectors = nlohmann::json::parse(ReadWhole(GoldenFolder() / "deepseek_vectors.json"));
  ASSERT_EQ(Sha256(ReadWhole(path)), vectors["tokenizer_sha256"])
      << path << " is not the file of " << vectors["tokenizer"];
  CheckVectors(*Tokenizer::Load(path), vectors);
}

}  // namespace
}  // namespace sluice::text
