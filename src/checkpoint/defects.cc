#include "checkpoint/defects.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace sluice::checkpoint {

void Defects::ThrowFirst() const {
  if (!sentences_.empty()) Fail(ErrorKind::kModelFiles, "{}", sentences_.front());
}

std::string Shown(std::string_view text) {
  constexpr size_t kLongest = 200;
  const std::string escaped =
      nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
  const std::string inner = escaped.substr(1, escaped.size() - 2);
  return inner.size() <= kLongest ? inner : inner.substr(0, kLongest) + "...";
}

}  // namespace sluice::checkpoint
