#include "doctor/finding.h"

#include <fmt/format.h>

#include <utility>

namespace sluice::doctor {

Finding Ok(std::string what, std::string found) {
  return {std::move(what), std::move(found), Verdict::kOk, ""};
}
Finding Warn(std::string what, std::string found, std::string remedy) {
  return {std::move(what), std::move(found), Verdict::kWarn, std::move(remedy)};
}
Finding Bad(std::string what, std::string found, std::string remedy) {
  return {std::move(what), std::move(found), Verdict::kBad, std::move(remedy)};
}

std::string Line(const Finding& finding) {
  const char* verdict = finding.verdict == Verdict::kOk     ? "ok"
                        : finding.verdict == Verdict::kWarn ? "warn"
                                                            : "bad";
  const std::string remedy = finding.remedy.empty() ? "" : " -> " + finding.remedy;
  return fmt::format("{:<4} {}: {}{}", verdict, finding.what, finding.found, remedy);
}

}  // namespace sluice::doctor
