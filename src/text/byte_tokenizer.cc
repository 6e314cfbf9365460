#include "text/byte_tokenizer.h"

#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/byte_level.h"

namespace sluice::text {
namespace {

using Json = nlohmann::ordered_json;

constexpr int32_t kLargestVocabulary = 1 << 24;

struct SpecialToken {
  std::string_view content;
  bool special;  // as in the family's file
};
// Of DeepSeek's only the sentence marks are special.
constexpr std::array<SpecialToken, 7> kSpecialTokens = {{{"<｜begin▁of▁sentence｜>", true},
                                                         {"<｜end▁of▁sentence｜>", true},
                                                         {"<｜User｜>", false},
                                                         {"<｜Assistant｜>", false},
                                                         {"<think>", false},
                                                         {"</think>", false},
                                                         {"｜DSML｜", false}}};

constexpr std::array<std::string_view, 3> kPatterns = {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
                                                       R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)"
                                                       "\r\n"
                                                       R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
                                                       "\r\n]*"
                                                       R"(|\s*[)"
                                                       "\r\n"
                                                       R"(]+|\s+(?!\S)|\s+)"};

constexpr std::array<SpecialToken, 20> kGlmSpecialTokens = {
    {{"<|endoftext|>", true},     {"[MASK]", true},        {"[gMASK]", true},
     {"[sMASK]", true},           {"<sop>", true},         {"<eop>", true},
     {"<|system|>", true},        {"<|user|>", true},      {"<|assistant|>", true},
     {"<|observation|>", true},   {"<think>", false},      {"</think>", false},
     {"<tool_call>", false},      {"</tool_call>", false}, {"<tool_response>", false},
     {"</tool_response>", false}, {"<arg_key>", false},    {"</arg_key>", false},
     {"<arg_value>", false},      {"</arg_value>", false}}};

constexpr std::array<std::string_view, 1> kGlmPatterns = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

constexpr std::string_view kLettersByFrequency = "etaoinshrdlucmfwypvbgkjqxz";

Json ByteLevel(bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json PreTokenizer(std::span<const std::string_view> patterns) {
  Json steps = Json::array();
  for (const std::string_view pattern : patterns) {
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(ByteLevel(false));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

// Fills `vocabulary` up to `vocab_size` and gives the merges, breadth first: each token is its parent and a
// letter.
Json AddMerges(int32_t vocab_size, Json& vocabulary) {
  std::vector<std::string> parents = {ToAlphabet(" ")};
  for (const char letter : kLettersByFrequency) parents.emplace_back(1, letter);
  Json merges = Json::array();
  auto next = static_cast<int32_t>(vocabulary.size());
  for (std::size_t i = 0; next < vocab_size; ++i) {
    for (const char letter : kLettersByFrequency) {
      if (next == vocab_size) break;
      merges.push_back(fmt::format("{} {}", parents[i], letter));
      parents.push_back(parents[i] + letter);
      vocabulary[parents.back()] = next++;
    }
  }
  return merges;
}

}  // namespace

std::string ByteTokenizerJson(int32_t vocab_size, const std::vector<std::string>& words,
                              TokenizerFamily family) {
  const bool glm = family == TokenizerFamily::kGlm;
  const auto word_count = static_cast<int32_t>(words.size());
  const int32_t smallest = (glm ? kSmallestGlmByteVocabulary : kSmallestByteVocabulary) + word_count;
  if (vocab_size < smallest || vocab_size > kLargestVocabulary) {
    Fail(ErrorKind::kUsage, "A byte-level vocabulary of {} tokens cannot be made; choose {} to {}.",
         vocab_size, smallest, kLargestVocabulary);
  }
  std::span<const SpecialToken> special_tokens = kSpecialTokens;
  std::span<const std::string_view> patterns = kPatterns;
  if (glm) {
    special_tokens = kGlmSpecialTokens;
    patterns = kGlmPatterns;
  }
  Json vocabulary = Json::object();
  Json added = Json::array();
  int32_t next = 0;
  const auto add = [&](std::string_view content, bool special) {
    added.push_back({{"id", next},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", !special && !glm},
                     {"special", special}});
    vocabulary[std::string(content)] = next++;
  };
  for (const auto& [content, special] : special_tokens) add(content, special);
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[std::string(AlphabetCharacter(static_cast<unsigned char>(byte)))] = next++;
  }
  Json merges = AddMerges(vocab_size - word_count, vocabulary);
  next = vocab_size - word_count;
  for (const std::string& word : words) add(word, false);
  const Json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", std::move(added)},
                     {"normalizer", {{"type", "Sequence"}, {"normalizers", Json::array()}}},
                     {"pre_tokenizer", PreTokenizer(patterns)},
                     {"post_processor", ByteLevel(true)},
                     {"decoder", ByteLevel(true)},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"vocab", std::move(vocabulary)},
                       {"merges", std::move(merges)}}}};
  return file.dump(2) + "\n";
}

std::string ByteTokenizerConfigJson(int64_t model_max_length, TokenizerFamily family) {
  const bool glm = family == TokenizerFamily::kGlm;
  const std::string_view end = glm ? kGlmSpecialTokens[0].content : kSpecialTokens[1].content;
  const Json file = {{"add_bos_token", false},
                     {"add_eos_token", false},
                     {"bos_token", glm ? Json() : Json(kSpecialTokens[0].content)},
                     {"eos_token", end},
                     {"pad_token", end},
                     {"unk_token", nullptr},
                     {"clean_up_tokenization_spaces", false},
                     {"model_max_length", model_max_length},
                     {"tokenizer_class", "PreTrainedTokenizerFast"}};
  return file.dump(2) + "\n";
}

}  // namespace sluice::text
