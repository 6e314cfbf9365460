#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/address.h"
#include "comm/communicator.h"
#include "comm/gloo_world.h"
#include "comm/key_value_store.h"
#include "comm/on_all_ranks.h"
#include "comm/pretend_device.h"
#include "comm/staged_communicator.h"
#include "comm/thread_world.h"

// Worlds for the room's tests: ranks as threads of the test, whatever carries their bytes.
namespace sluice::comm {

inline const Address kAnyPort = ParseAddress("127.0.0.1:0");
inline constexpr Duration kLong = std::chrono::seconds(20);  // a limit that no test that passes reaches

enum class BackEnd { kThreads, kGloo, kStaged };  // kStaged: over kGloo, beside a device

inline std::string NameOf(BackEnd back_end) {
  return back_end == BackEnd::kThreads ? "Threads" : back_end == BackEnd::kGloo ? "Gloo" : "Staged";
}

inline std::vector<std::unique_ptr<Communicator>> MakeWorld(BackEnd back_end, int size, Duration timeout) {
  if (back_end == BackEnd::kThreads) return MakeThreadWorld(size, timeout);
  std::vector<std::unique_ptr<Communicator>> world(static_cast<size_t>(size));
  LocalStore store;
  OnAllRanks(size, [&](int rank) {
    world[rank] = MakeGlooWorld(rank, size, store, kLoopback, timeout);
    if (back_end != BackEnd::kStaged) return;
    static PretendDevice device;
    world[rank] = MakeStaged(std::move(world[rank]), device, HostMemory());
  });
  return world;
}

// The sentence of the Error(kRankLost) that `body` throws; fails the test when it throws none.
inline std::string LostSentence(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRankLost) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

inline double SecondsOf(const std::function<void()>& body) {
  const auto begin = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// The byte at `index` of what `from` sends to `to`; both ends compute it.
inline std::byte Pattern(int from, int to, int64_t index) {
  return static_cast<std::byte>((from * 101 + to * 37 + index * 7 + 13) & 0xff);
}
inline std::vector<std::byte> Part(int from, int to, int64_t bytes) {
  std::vector<std::byte> part(static_cast<size_t>(bytes));
  for (int64_t i = 0; i < bytes; ++i) part[i] = Pattern(from, to, i);
  return part;
}

}  // namespace sluice::comm
