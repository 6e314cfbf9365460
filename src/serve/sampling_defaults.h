#pragma once

#include <cstdint>

namespace sluice::serve {

// What counts where a request does not say it. Ranges are those of the request's fields.
struct SamplingDefaults {
  float temperature = 1.0F;
  float top_p = 1.0F;
  int32_t top_k = 0;  // 0: all
};

}  // namespace sluice::serve
