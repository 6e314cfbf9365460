#include "text/tokenizer.h"

#include <simdjson.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/split_pattern.h"
#include "text/token_table.h"
#include "text/tokenizer_file.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

struct Token {
  std::string bytes;
  bool added = false;
  bool special = false;
  bool byte_level = false;  // written in the byte-level alphabet, so a piece of text can be equal to it
};

std::vector<Token> TokensOf(const TokenizerFile& file) {
  int32_t largest = -1;
  for (const auto& [token, id] : file.vocabulary) largest = std::max(largest, id);
  for (const auto& added : file.added) largest = std::max(largest, added.id);
  std::vector<Token> tokens(static_cast<std::size_t>(largest) + 1);

  // A token with a character outside the alphabet stands for its own UTF-8 bytes, as in Hugging Face's
  // decoder.
  const auto set = [&](const std::string& written, int32_t id) -> Token& {
    Token& token = tokens[static_cast<std::size_t>(id)];
    auto bytes = FromAlphabet(written);
    token.byte_level = bytes.has_value();
    token.bytes = bytes ? std::move(*bytes) : written;
    return token;
  };
  for (const auto& [written, id] : file.vocabulary) set(written, id);
  for (const auto& added : file.added) {
    Token& token = set(added.content, added.id);
    token.added = true;
    token.special = added.special;
  }
  return tokens;
}

std::array<int32_t, 256> ByteIds(const std::vector<Token>& tokens, const TokenizerFile& file,
                                 const std::filesystem::path& path) {
  std::array<int32_t, 256> ids;
  ids.fill(-1);
  for (const auto& [written, id] : file.vocabulary) {
    const Token& token = tokens[static_cast<std::size_t>(id)];
    if (token.byte_level && token.bytes.size() == 1) ids[static_cast<unsigned char>(token.bytes[0])] = id;
  }
  for (std::size_t byte = 0; byte < ids.size(); ++byte) {
    if (ids[byte] >= 0) continue;
    Fail(ErrorKind::kModelFiles,
         "{}: model.vocab has no token '{}' for byte 0x{:02X}; a byte-level vocabulary has all 256 of them.",
         path.string(), AlphabetCharacter(static_cast<unsigned char>(byte)), byte);
  }
  return ids;
}

AddedTokenMatcher MatcherOf(const TokenizerFile& file, bool normalized) {
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (const auto& added : file.added) {
    if (added.normalized == normalized) tokens.emplace_back(added.content, added.id);
  }
  return AddedTokenMatcher(tokens);
}

}  // namespace

struct Tokenizer::Parts {
  Parts(const TokenizerFile& file, const std::filesystem::path& path)
      : tokens(TokensOf(file)),
        bpe(ByteIds(tokens, file, path), file.merges),
        whole(file.vocabulary.size()),
        by_bytes(tokens.size()),
        added{MatcherOf(file, false), MatcherOf(file, true)} {
    for (const auto& split : file.splits) splits.emplace_back(split.source, split.where);
    for (const auto& token : file.added)
      by_bytes.Add(tokens[static_cast<std::size_t>(token.id)].bytes, token.id);
    std::vector<int32_t> ids;
    for (const auto& [written, id] : file.vocabulary) {
      const Token& token = tokens[static_cast<std::size_t>(id)];
      by_bytes.Add(token.bytes, id);
      if (!token.byte_level || token.bytes.empty()) continue;
      ids.clear();
      if (!file.ignore_merges) bpe.Encode(token.bytes, ids);
      if (file.ignore_merges || (ids.size() == 1 && ids[0] == id)) whole.Add(token.bytes, id);
    }
  }

  void EncodePiece(std::string_view piece, std::vector<int32_t>& out) const {
    const int32_t id = whole.Find(piece);
    if (id >= 0) {
      out.push_back(id);
    } else {
      bpe.Encode(piece, out);
    }
  }

  // The pre-tokenizer's steps from `step` on, then the merges.
  void EncodeText(std::string_view text, std::size_t step, MatchScratch& scratch,
                  std::vector<int32_t>& out) const {
    if (step == splits.size()) return EncodePiece(text, out);
    splits[step].Split(text, scratch,
                       [&](std::string_view part) { EncodeText(part, step + 1, scratch, out); });
  }

  // Tokens that are not "normalized" are taken out of the text first, the others out of what is left.
  void EncodeAll(std::string_view text, std::size_t pass, MatchScratch& scratch,
                 std::vector<int32_t>& out) const {
    if (pass == added.size()) return EncodeText(text, 0, scratch, out);
    added[pass].Split(text, [&](std::string_view part, int32_t id) {
      if (id >= 0) {
        out.push_back(id);
      } else {
        EncodeAll(part, pass + 1, scratch, out);
      }
    });
  }

  std::vector<Token> tokens;  // by id
  Bpe bpe;
  TokenTable whole;     // the pieces whose encoding is one token
  TokenTable by_bytes;  // every token
  std::array<AddedTokenMatcher, 2> added;
  std::vector<SplitPattern> splits;
};

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

std::unique_ptr<Tokenizer> Tokenizer::Load(const std::filesystem::path& tokenizer_json) {
  const TokenizerFile file = ReadTokenizerFile(tokenizer_json);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::make_unique<const Parts>(file, tokenizer_json)));
}

std::unique_ptr<Tokenizer> Tokenizer::Parse(std::string_view tokenizer_json, const std::string& name) {
  const TokenizerFile file = ParseTokenizerFile(tokenizer_json, name);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::make_unique<const Parts>(file, name)));
}

std::vector<int32_t> Tokenizer::Encode(std::string_view utf8, bool parse_special) const {
  std::string repaired;
  if (!simdjson::validate_utf8(utf8.data(), utf8.size())) {
    repaired = RepairUtf8(utf8);
    utf8 = repaired;
  }
  MatchScratch scratch;
  std::vector<int32_t> ids;
  if (parse_special) {
    parts_->EncodeAll(utf8, 0, scratch, ids);
  } else {
    parts_->EncodeText(utf8, 0, scratch, ids);
  }
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!(skip_special && IsSpecial(id))) bytes.append(TokenBytes(id));
  }
  return simdjson::validate_utf8(bytes) ? bytes : RepairUtf8(bytes);
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return parts_->tokens[static_cast<std::size_t>(id)].bytes;
}

bool Tokenizer::IsAdded(int32_t id) const {
  return id >= 0 && id < vocab_size() && parts_->tokens[static_cast<std::size_t>(id)].added;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && parts_->tokens[static_cast<std::size_t>(id)].special;
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view bytes) const {
  const int32_t id = parts_->by_bytes.Find(bytes);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(parts_->tokens.size()); }

}  // namespace sluice::text
