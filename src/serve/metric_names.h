#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <string_view>
#include <vector>

namespace sluice::serve {

// What two other servers call the series that we have as well, with the same meaning and unit.
struct MetricAlias {
  std::string_view ours;    // without "sluice_"
  std::string_view sglang;  // without "sglang:"; empty: it has none
  std::string_view vllm;    // without "vllm:"
};
const std::vector<MetricAlias>& MetricAliases();

// The families of `families`, whose names begin with "sluice_", once more under the names of `system`,
// "sglang" or "vllm"; only those that the system has.
std::vector<prometheus::MetricFamily> UnderNamesOf(std::string_view system,
                                                   const std::vector<prometheus::MetricFamily>& families);

}  // namespace sluice::serve
