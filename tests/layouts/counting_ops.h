#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "ops/wrapped_ops.h"

namespace sluice::layouts {

// What one rank computed: rows by op, and when each op ran.
struct OpLog {
  std::mutex mutex;
  std::map<std::string, int64_t> rows;
  std::vector<std::pair<int64_t, std::string>> calls;  // (begin in ns, op)
  std::function<void(const std::string& op)> on_call;  // before the op runs; may be empty, may block

  void Add(const char* op, int64_t count) {
    {
      std::lock_guard lock(mutex);
      rows[op] += count;
      calls.emplace_back(NowNs(), op);
    }
    if (on_call) on_call(op);
  }
};

// Notes the rows of every op.
class CountingOps : public ops::WrappedOps {
 public:
  CountingOps(std::unique_ptr<ops::Ops> inner, OpLog& log) : WrappedOps(std::move(inner)), log_(log) {}

 protected:
  void Around(const char* op, int64_t rows, FunctionRef<void()> run) override {
    log_.Add(op, rows);
    run();
  }

 private:
  OpLog& log_;
};

}  // namespace sluice::layouts
