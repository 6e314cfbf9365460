#include "text/utf8_guard.h"

namespace sluice::text {
namespace {

Utf8Place PlaceOfLead(unsigned char byte) {
  if (byte < 0x80) return Utf8Place::kBetween;
  if (byte < 0xC2) return Utf8Place::kBroken;
  if (byte < 0xE0) return Utf8Place::kOneMore;
  if (byte == 0xE0) return Utf8Place::kBehindE0;
  if (byte == 0xED) return Utf8Place::kBehindED;
  if (byte < 0xF0) return Utf8Place::kTwoMore;
  if (byte == 0xF0) return Utf8Place::kBehindF0;
  if (byte < 0xF4) return Utf8Place::kThreeMore;
  return byte == 0xF4 ? Utf8Place::kBehindF4 : Utf8Place::kBroken;
}

Utf8Place Step(Utf8Place place, unsigned char byte) {
  const auto within = [byte](unsigned char least, unsigned char most, Utf8Place next) {
    return byte >= least && byte <= most ? next : Utf8Place::kBroken;
  };
  switch (place) {
    case Utf8Place::kBetween:
      return PlaceOfLead(byte);
    case Utf8Place::kOneMore:
      return within(0x80, 0xBF, Utf8Place::kBetween);
    case Utf8Place::kTwoMore:
      return within(0x80, 0xBF, Utf8Place::kOneMore);
    case Utf8Place::kThreeMore:
      return within(0x80, 0xBF, Utf8Place::kTwoMore);
    case Utf8Place::kBehindE0:
      return within(0xA0, 0xBF, Utf8Place::kOneMore);
    case Utf8Place::kBehindED:
      return within(0x80, 0x9F, Utf8Place::kOneMore);
    case Utf8Place::kBehindF0:
      return within(0x90, 0xBF, Utf8Place::kTwoMore);
    case Utf8Place::kBehindF4:
      return within(0x80, 0x8F, Utf8Place::kTwoMore);
    case Utf8Place::kBroken:
      break;
  }
  return Utf8Place::kBroken;
}

}  // namespace

Utf8Place Follow(Utf8Place place, std::string_view bytes) {
  for (const char byte : bytes) place = Step(place, static_cast<unsigned char>(byte));
  return place;
}

Utf8Guard::Utf8Guard(std::span<const std::string_view> tokens) {
  for (int place = 0; place < kUtf8Places; ++place) {
    std::vector<uint32_t>& fits = fits_[static_cast<size_t>(place)];
    fits.resize((tokens.size() + 31) / 32);
    for (size_t token = 0; token < tokens.size(); ++token) {
      if (Follow(static_cast<Utf8Place>(place), tokens[token]) != Utf8Place::kBroken) {
        fits[token / 32] |= 1U << (token % 32);
      }
    }
  }
}

void Utf8Guard::Narrow(Utf8Place place, std::span<uint32_t> allowed) const {
  const std::vector<uint32_t>& fits = fits_[static_cast<size_t>(place)];
  for (size_t word = 0; word < allowed.size(); ++word) allowed[word] &= fits[word];
}

}  // namespace sluice::text
