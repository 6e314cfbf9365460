#include "text/tokenizer_file.h"

#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "text/json_value.h"

namespace sluice::text {
namespace {

// The pattern of ByteLevel with "use_regex": GPT-2's.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

using VocabularyIndex = std::unordered_map<std::string_view, int32_t>;

// The vocabulary and the merges are long: the place of an entry is written out for a message only.
std::vector<std::pair<std::string, int32_t>> ReadVocabulary(const JsonValue& vocab) {
  const simdjson::dom::object entries = vocab.Object();
  std::vector<std::pair<std::string, int32_t>> vocabulary;
  vocabulary.reserve(entries.size());
  std::unordered_set<int32_t> ids;
  for (const auto& [token, value] : entries) {
    int64_t number = -1;
    const bool fits =
        value.get(number) == simdjson::SUCCESS && number >= 0 && number < JsonValue::kTokenIdEnd;
    const int32_t id = fits ? static_cast<int32_t>(number) : vocab[token].TokenId();
    if (!ids.insert(id).second) vocab[token].Refuse("an id given twice", "one token for each id");
    vocabulary.emplace_back(token, id);
  }
  return vocabulary;
}

VocabularyIndex IndexOf(const std::vector<std::pair<std::string, int32_t>>& vocabulary,
                        const JsonValue& vocab) {
  VocabularyIndex index;
  index.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary) {
    if (!index.emplace(token, id).second) vocab[token].Refuse("listed twice", "one id for each token");
  }
  return index;
}

// "a b" or ["a", "b"]; nullopt for anything else.
std::optional<std::pair<std::string_view, std::string_view>> ReadPair(simdjson::dom::element entry) {
  std::string_view line;
  if (entry.get(line) == simdjson::SUCCESS) {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
      return std::nullopt;
    return std::pair(line.substr(0, space), line.substr(space + 1));
  }
  simdjson::dom::array pair;
  std::string_view left;
  std::string_view right;
  if (entry.get(pair) != simdjson::SUCCESS || pair.size() != 2 || pair.at(0).get(left) != simdjson::SUCCESS ||
      pair.at(1).get(right) != simdjson::SUCCESS) {
    return std::nullopt;
  }
  return std::pair(left, right);
}

std::vector<MergeRule> ReadMerges(const JsonValue& merges, const VocabularyIndex& index) {
  std::vector<MergeRule> rules;
  std::unordered_set<uint64_t> pairs;
  std::string joined;
  std::size_t at = 0;
  for (const auto entry : merges.Array()) {
    const auto pair = ReadPair(entry);
    if (!pair) merges.At(at, entry).Refuse("two tokens as \"a b\" or [\"a\", \"b\"]");
    joined.assign(pair->first).append(pair->second);
    const auto left = index.find(pair->first);
    const auto right = index.find(pair->second);
    const auto merged = index.find(joined);
    if (left == index.end() || right == index.end() || merged == index.end()) {
      merges.At(at, entry).Refuse("merges of two tokens in model.vocab into a third");
    }
    const auto key = (static_cast<uint64_t>(left->second) << 32) | static_cast<uint64_t>(right->second);
    if (!pairs.insert(key).second) merges.At(at, entry).Refuse("a pair listed twice", "each pair once");
    rules.push_back({left->second, right->second, merged->second});
    ++at;
  }
  return rules;
}

void ReadModel(const JsonValue& model, TokenizerFile& file) {
  model.ExpectOnly({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                    "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  // Old files leave the type out.
  if (!model["type"].is_null()) model["type"].ExpectString("BPE");
  model["dropout"].ExpectNull();
  model["unk_token"].ExpectNull();
  for (const std::string_view affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonValue value = model[affix];
    if (!value.is_null() && !value.String().empty()) value.Refuse("null or \"\"");
  }
  for (const std::string_view flag : {"fuse_unk", "byte_fallback"}) {
    if (!model[flag].is_null()) model[flag].ExpectBool(false);
  }
  const JsonValue ignore_merges = model["ignore_merges"];
  file.ignore_merges = !ignore_merges.is_null() && ignore_merges.Bool();
  file.vocabulary = ReadVocabulary(model["vocab"]);
  const VocabularyIndex index = IndexOf(file.vocabulary, model["vocab"]);
  file.merges = ReadMerges(model["merges"], index);
}

void ReadAddedTokens(const JsonValue& tokens, TokenizerFile& file) {
  if (tokens.is_null()) return;
  const std::unordered_map<std::string_view, int32_t> index(file.vocabulary.begin(), file.vocabulary.end());
  std::unordered_map<int32_t, std::string_view> by_id;
  for (const auto& [token, id] : file.vocabulary) by_id.emplace(id, token);
  std::unordered_set<std::string_view> seen;
  std::size_t at = 0;
  for (const auto entry : tokens.Array()) {
    const JsonValue token = tokens.At(at++, entry);
    token.ExpectOnly({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    for (const std::string_view flag : {"single_word", "lstrip", "rstrip"}) token[flag].ExpectBool(false);
    const std::string_view content = token["content"].String();
    const int32_t id = token["id"].TokenId();
    if (content.empty()) token["content"].Refuse("a text that is not empty");
    if (!seen.insert(content).second) token["content"].Refuse("listed twice", "each added token once");
    const auto in_vocabulary = index.find(content);
    if (in_vocabulary != index.end() && in_vocabulary->second != id) {
      token["id"].Refuse(fmt::format("{}, the id that model.vocab gives this token", in_vocabulary->second));
    }
    const auto [holder, is_new] = by_id.emplace(id, content);
    if (!is_new && holder->second != content) {
      token["id"].Refuse(fmt::format("{}, the id of '{}' too", id, holder->second), "one token for each id");
    }
    file.added.push_back({std::string(content), id, token["special"].Bool(), token["normalized"].Bool()});
  }
}

void ReadNormalizer(const JsonValue& normalizer) {
  if (normalizer.is_null()) return;
  constexpr std::string_view kSupported = "null or an empty Sequence";
  if (normalizer["type"].String() != "Sequence") normalizer["type"].Refuse(kSupported);
  if (normalizer["normalizers"].Array().size() != 0) normalizer["normalizers"].Refuse(kSupported);
}

void ReadByteLevel(const JsonValue& step, TokenizerFile& file) {
  step.ExpectOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  step["add_prefix_space"].ExpectBool(false);
  // Files from before the option existed mean true.
  const JsonValue use_regex = step["use_regex"];
  if (use_regex.is_null() || use_regex.Bool()) {
    file.splits.push_back({std::string(kByteLevelPattern), use_regex.where()});
  }
}

void ReadSplit(const JsonValue& step, TokenizerFile& file) {
  step.ExpectOnly({"type", "pattern", "behavior", "invert"});
  step["behavior"].ExpectString("Isolated");
  step["invert"].ExpectBool(false);
  step["pattern"].ExpectOnly({"Regex"});
  const JsonValue pattern = step["pattern"]["Regex"];
  file.splits.push_back({std::string(pattern.String()), pattern.where()});
}

void ReadPreTokenizer(const JsonValue& pre_tokenizer, TokenizerFile& file) {
  if (pre_tokenizer.is_null())
    pre_tokenizer.Refuse("ByteLevel, or a Sequence of Split that ends with ByteLevel");
  const std::string_view type = pre_tokenizer["type"].String();
  if (type == "ByteLevel") return ReadByteLevel(pre_tokenizer, file);
  if (type != "Sequence")
    pre_tokenizer["type"].Refuse("ByteLevel, or a Sequence of Split that ends with ByteLevel");

  pre_tokenizer.ExpectOnly({"type", "pretokenizers"});
  const JsonValue steps = pre_tokenizer["pretokenizers"];
  const simdjson::dom::array list = steps.Array();
  if (list.size() == 0) steps.Refuse("a Sequence that ends with ByteLevel");
  std::size_t at = 0;
  for (const auto entry : list) {
    const JsonValue step = steps.At(at++, entry);
    const bool last = at == list.size();
    step["type"].ExpectString(last ? "ByteLevel" : "Split");
    last ? ReadByteLevel(step, file) : ReadSplit(step, file);
  }
}

TokenizerFile FileOf(const simdjson::simdjson_result<simdjson::dom::element>& json, const std::string& name) {
  simdjson::dom::element root;
  if (const auto error = json.get(root); error != simdjson::SUCCESS) {
    Fail(ErrorKind::kModelFiles,
         "{}: cannot be read as JSON ({}); a Hugging Face tokenizer.json is expected.", name,
         simdjson::error_message(error));
  }
  const JsonValue top(name, "", root);
  top.ExpectOnly({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                  "post_processor", "decoder", "model"});
  top["version"].ExpectString("1.0");
  top["truncation"].ExpectNull();
  top["padding"].ExpectNull();
  ReadNormalizer(top["normalizer"]);
  if (!top["post_processor"].is_null()) top["post_processor"]["type"].ExpectString("ByteLevel");
  top["decoder"]["type"].ExpectString("ByteLevel");

  TokenizerFile file;
  ReadPreTokenizer(top["pre_tokenizer"], file);
  ReadModel(top["model"], file);
  ReadAddedTokens(top["added_tokens"], file);
  return file;
}

}  // namespace

TokenizerFile ReadTokenizerFile(const std::filesystem::path& path) {
  simdjson::dom::parser parser;
  return FileOf(parser.load(path.string()), path.string());
}

TokenizerFile ParseTokenizerFile(std::string_view text, const std::string& name) {
  simdjson::dom::parser parser;
  return FileOf(parser.parse(text.data(), text.size()), name);
}

}  // namespace sluice::text
