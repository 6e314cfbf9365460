#pragma once

#include <string>
#include <vector>

namespace sluice::doctor {

// kBad: jobs will fail, or not start. kWarn: they run, but some will fail, be slow or be hard to understand.
enum class Verdict { kOk, kWarn, kBad };

// One thing that was looked at.
struct Finding {
  std::string what;
  std::string found;
  Verdict verdict = Verdict::kOk;
  std::string remedy;  // why it matters and what to do; empty exactly when ok
};
using Findings = std::vector<Finding>;

Finding Ok(std::string what, std::string found);
Finding Warn(std::string what, std::string found, std::string remedy);
Finding Bad(std::string what, std::string found, std::string remedy);

// "ok   WHAT: FOUND" or "warn WHAT: FOUND -> REMEDY", one line.
std::string Line(const Finding& finding);

}  // namespace sluice::doctor
