#include "text/detokenizer.h"

#include "text/utf8.h"

namespace sluice::text {

std::string IncrementalDetokenizer::Push(int32_t id) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return {};
  held_.append(tokenizer_->TokenBytes(id));
  std::string text;
  held_.erase(0, AppendRepaired(held_, text));
  return text;
}

std::string IncrementalDetokenizer::Finish() {
  if (held_.empty()) return {};
  held_.clear();
  return std::string(kReplacement);
}

}  // namespace sluice::text
