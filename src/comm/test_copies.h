#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/gloo_world.h"
#include "comm/key_value_store.h"
#include "comm/on_all_ranks.h"
#include "comm/peer_copies.h"
#include "comm/test_streams.h"
#include "comm/thread_world.h"

// For tests: ranks in a row, each of which copies into the memory of the next where it can.
namespace sluice::comm {

using Sharings = std::vector<std::unique_ptr<TestSharing>>;

// Ranks of one host, each with a device of its own.
inline Sharings OnOneHost(int size) {
  Sharings sharings;
  for (int rank = 0; rank < size; ++rank) {
    sharings.push_back(std::make_unique<TestSharing>("here", std::to_string(rank)));
  }
  return sharings;
}

struct CopyChain {
  std::vector<std::unique_ptr<Communicator>> world;  // null for who was refused
  std::vector<CopyEdges> edges;
  std::vector<std::string> refused;  // by rank, the sentence
};

// `memory` and `sharings` outlive the chain.
inline CopyChain MakeCopyChain(const Sharings& sharings, Memory& memory, Duration timeout, bool required) {
  const auto size = static_cast<int>(sharings.size());
  CopyChain chain{MakeThreadWorld(size, timeout, memory), std::vector<CopyEdges>(sharings.size()),
                  std::vector<std::string>(sharings.size())};
  LocalStore store;
  OnAllRanks(size, [&](int rank) {
    std::vector<int> to, from;
    if (rank + 1 < size) to.push_back(rank + 1);
    if (rank > 0) from.push_back(rank - 1);
    try {
      chain.world[rank] = MakePeerCopies(std::move(chain.world[rank]), *sharings[rank], to, from, store,
                                         kLoopback, required, timeout, &chain.edges[rank]);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      chain.refused[rank] = error.what();
    }
  });
  return chain;
}

}  // namespace sluice::comm
