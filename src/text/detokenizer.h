#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace sluice::text {

// Turns ids that arrive one by one into text, never emitting half a character: bytes that may still become
// one are held back (at most 3), bytes that cannot are U+FFFD at once. All pieces together, Finish's
// included, are Tokenizer::Decode of all ids with the same `skip_special`. One sequence, one thread at a
// time.
class IncrementalDetokenizer {
 public:
  // `tokenizer` must outlive this object.
  IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that became certain with this id; may be empty.
  std::string Push(int32_t id);

  // The end of the sequence: one U+FFFD when bytes were held back, otherwise empty. Ready for another
  // sequence.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_;  // an incomplete character
};

}  // namespace sluice::text
