#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <vector>

#include "base/error.h"
#include "comm/nccl/nccl_test_support.h"
#include "comm/rendezvous.h"

// The life of a rank's process in nccl_process_test: gathers for ever and tells the controller how that
// ended.
//   nccl_rank_process ADDRESS RANK SIZE LIMIT_MS
int main(int count, char** arguments) {
  using namespace sluice;        // NOLINT: a program of one function
  using namespace sluice::comm;  // NOLINT
  if (count != 5) return 2;
  const int rank = std::atoi(arguments[2]);
  const int size = std::atoi(arguments[3]);
  const std::chrono::milliseconds limit(std::atoi(arguments[4]));
  constexpr size_t kBytes = 100'000;
  try {
    auto channel = Join(ParseAddress(arguments[1]), {rank, size, "b", "j"}, GivenSecret("").value(),
                        std::chrono::seconds(20));
    std::unique_ptr<NcclCommunicator> world;
    {
      JoinedStore store(*channel);
      world = MakeNcclWorld(rank, size, store, kLoopback, {.device = rank}, limit);
    }
    SayConnected(*channel);
    const DeviceBytes mine(rank, kBytes);
    const DeviceBytes all(rank, kBytes * static_cast<size_t>(size));
    const std::vector<int64_t> sizes(static_cast<size_t>(size), kBytes);
    try {
      for (int round = 0;; ++round) {
        world->AllGather("gather", mine.span(), all.span(), sizes);
        if (round == 20) channel->Send({1, 0, 0, {}});
      }
    } catch (const Error& error) {
      const std::string sentence = error.what();
      const auto bytes = std::as_bytes(std::span(sentence));
      channel->Send({2, static_cast<uint64_t>(error.kind()), 0, {bytes.begin(), bytes.end()}});
    }
    channel->Receive(std::chrono::seconds(10));
  } catch (const std::exception&) {
    return 3;
  }
  return 0;
}
