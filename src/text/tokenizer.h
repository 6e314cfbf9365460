#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::text {

// A byte-level BPE tokenizer read from a Hugging Face tokenizer.json; the ids are those that the Hugging Face
// `tokenizers` library gives without its post-processor. It adds no token of its own: a chat encoding or the
// caller writes the beginning-of-sentence token. Constant after loading: any number of threads may use it.
class Tokenizer {
 public:
  // Reads the file as tokenizer_file.h says. Error(kModelFiles) for a file that is absent, broken or asks for
  // something not supported, or whose vocabulary lacks one of the 256 byte tokens.
  static std::unique_ptr<Tokenizer> Load(const std::filesystem::path& tokenizer_json);
  // The same for the text of such a file; `name` begins each sentence.
  static std::unique_ptr<Tokenizer> Parse(std::string_view tokenizer_json, const std::string& name);
  ~Tokenizer();

  // Text to ids. Added tokens written out in the text (<think>, <｜User｜>, ...) become their ids when
  // `parse_special`, and are ordinary text when not. Bytes that are not UTF-8 are first replaced, one U+FFFD
  // for each maximal subpart, as a Python caller's bytes.decode(errors="replace") would. Time O(n log n),
  // memory O(n).
  std::vector<int32_t> Encode(std::string_view utf8, bool parse_special = true) const;

  // Ids to text, always valid UTF-8: the tokens' bytes one after the other, with one U+FFFD for each maximal
  // subpart that is not UTF-8. Ids that are no token (also negative ones and those past the end) have no
  // text. `skip_special` leaves out the tokens that the file calls special.
  std::string Decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // The bytes a token stands for; they may begin or end inside a character. Empty when `id` is no token.
  std::string_view TokenBytes(int32_t id) const;

  // True when the file lists the token under added_tokens.
  bool IsAdded(int32_t id) const;

  // True when it is also special there.
  bool IsSpecial(int32_t id) const;

  // The token whose bytes are `bytes`: an added token first, then one of the vocabulary.
  std::optional<int32_t> TokenId(std::string_view bytes) const;

  // One more than the largest id; a model may have more rows than that.
  int32_t vocab_size() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  std::unique_ptr<const Parts> parts_;
};

}  // namespace sluice::text
