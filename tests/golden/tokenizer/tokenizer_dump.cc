// tokenizer_dump TOKENIZER_JSON encode|encode-plain|decode|decode-skip|time
// tokenizer_dump VOCAB_SIZE byte-tokenizer
//
// The second form prints the made-up byte-level tokenizer.json of so many tokens. The first reads frames from
// standard input and writes one frame for each to standard output. A frame is a length in bytes (32 bits,
// little-endian) and the bytes. `encode` takes text and gives ids (32 bits each, little-endian),
// `encode-plain` does so without looking for added tokens; `decode` takes ids and gives text, `decode-skip`
// without special tokens, and both check that the incremental detokenizer says the same. `time` encodes all
// frames as one text, three times, and prints the best speed.
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/byte_tokenizer.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace {

using sluice::text::Tokenizer;
static_assert(std::endian::native == std::endian::little, "frames are copied as they lie in memory");

std::optional<std::string> ReadFrame() {
  uint32_t size = 0;
  if (!std::cin.read(reinterpret_cast<char*>(&size), sizeof(size))) return std::nullopt;
  std::string frame(size, '\0');
  if (!std::cin.read(frame.data(), size)) {
    sluice::Fail(sluice::ErrorKind::kUsage, "Standard input ends inside a frame of {} bytes.", size);
  }
  return frame;
}

void WriteFrame(const char* data, std::size_t bytes) {
  const auto size = static_cast<uint32_t>(bytes);
  std::cout.write(reinterpret_cast<const char*>(&size), sizeof(size));
  std::cout.write(data, static_cast<std::streamsize>(bytes));
}

void Encode(const Tokenizer& tokenizer, bool parse_special) {
  while (const auto text = ReadFrame()) {
    const std::vector<int32_t> ids = tokenizer.Encode(*text, parse_special);
    WriteFrame(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t));
  }
}

void Decode(const Tokenizer& tokenizer, bool skip_special) {
  while (const auto frame = ReadFrame()) {
    std::vector<int32_t> ids(frame->size() / sizeof(int32_t));
    std::memcpy(ids.data(), frame->data(), ids.size() * sizeof(int32_t));
    const std::string text = tokenizer.Decode(ids, skip_special);
    sluice::text::IncrementalDetokenizer incremental(tokenizer, skip_special);
    std::string pieces;
    for (const int32_t id : ids) pieces += incremental.Push(id);
    pieces += incremental.Finish();
    SLUICE_CHECK(pieces == text, "the incremental detokenizer differs from Decode");
    WriteFrame(text.data(), text.size());
  }
}

void Time(const Tokenizer& tokenizer) {
  std::string text;
  while (const auto frame = ReadFrame()) text += *frame;
  double best = 0;
  std::size_t ids = 0;
  for (int round = 0; round < 3; ++round) {
    const auto start = std::chrono::steady_clock::now();
    ids = tokenizer.Encode(text).size();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(text.size()) / seconds.count() / 1e6);
  }
  std::cout << fmt::format("{} bytes, {} ids, {:.1f} MB/s\n", text.size(), ids, best);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 3)
      sluice::Fail(sluice::ErrorKind::kUsage, "Two arguments are expected: TOKENIZER_JSON MODE.");
    const std::string mode = argv[2];
    if (mode == "byte-tokenizer") {
      std::cout << sluice::text::ByteTokenizerJson(std::stoi(argv[1]));
      return 0;
    }
    const auto tokenizer = Tokenizer::Load(argv[1]);
    if (mode == "encode" || mode == "encode-plain") {
      Encode(*tokenizer, mode == "encode");
    } else if (mode == "decode" || mode == "decode-skip") {
      Decode(*tokenizer, mode == "decode-skip");
    } else if (mode == "time") {
      Time(*tokenizer);
    } else {
      sluice::Fail(sluice::ErrorKind::kUsage,
                   "'{}' is no mode: encode, encode-plain, decode, decode-skip, time.", mode);
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
