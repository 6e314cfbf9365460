#pragma once

#include "base/error.h"

namespace sluice::cli {

// The documented exit codes (docs/exit-codes.md).
constexpr int ExitCodeOf(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
    case ErrorKind::kBadRequest:
    case ErrorKind::kOverloaded:
      return 2;
    case ErrorKind::kModelFiles:
      return 3;
    case ErrorKind::kMemory:
      return 4;
    case ErrorKind::kRankLost:
      return 5;
    case ErrorKind::kNetwork:
      return 6;
    case ErrorKind::kInternal:
      return 70;
  }
  return 70;
}

}  // namespace sluice::cli
