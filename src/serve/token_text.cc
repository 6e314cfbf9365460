#include "serve/token_text.h"

#include <fmt/format.h>

#include "text/utf8.h"

namespace sluice::serve {

namespace {
bool Continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }
}  // namespace

std::string TokenText(const text::Tokenizer& tokenizer, int32_t token) {
  const std::string_view bytes = tokenizer.TokenBytes(token);
  if (text::RepairUtf8(bytes) == bytes) return std::string(bytes);
  std::string escaped = "bytes:";
  for (const char byte : bytes) escaped += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return escaped;
}

Json TokenByteList(const text::Tokenizer& tokenizer, int32_t token) {
  Json list = Json::array();
  for (const char byte : tokenizer.TokenBytes(token)) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

int64_t TextOffset::Next(std::string_view bytes) {
  const bool inside = !bytes.empty() && Continues(bytes.front()) && begun_ > 0;
  const int64_t offset = inside ? begun_ - 1 : begun_;
  for (const char byte : bytes) begun_ += Continues(byte) ? 0 : 1;
  return offset;
}

}  // namespace sluice::serve
