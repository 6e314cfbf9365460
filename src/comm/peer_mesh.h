#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "comm/channel.h"
#include "comm/key_value_store.h"

namespace sluice::comm {

// Frames between ranks of a world, for a data plane whose transfers cannot say who is there: a
// channel to every peer and a thread that reads it.
class PeerMesh {
 public:
  // Both are called on the thread that reads `peer`, frames in the order they were sent; they must not block
  // for long. OnLost is the last call for a peer: its channel ended, for the reason in `words`.
  using OnFrame = std::function<void(int peer, const Frame& frame)>;
  using OnLost = std::function<void(int peer, const std::string& words)>;

  // Connects this rank to all others, each of which makes its mesh with the same size and store. `bind` is
  // the address or network interface of this host that the others reach it by; the system chooses the port. A
  // connection must present the number that its listener left in the store, so a stranger is turned away;
  // nothing is encrypted. Returns once all are connected. Throws Error(kNetwork) when `bind` is no address of
  // this host, Error(kRankLost) naming the rank that did not come within `timeout`.
  PeerMesh(int rank, int size, KeyValueStore& store, const std::string& bind, Duration timeout);
  // Connects to `peers` alone, each of which names this rank among its own.
  PeerMesh(int rank, int size, std::span<const int> peers, KeyValueStore& store, const std::string& bind,
           Duration timeout);
  ~PeerMesh();
  PeerMesh(const PeerMesh&) = delete;
  PeerMesh& operator=(const PeerMesh&) = delete;

  // Reads from now on. Frames that came before are not lost.
  void Start(OnFrame on_frame, OnLost on_lost);
  // Thread-safe. Throws Error(kRankLost) when the peer is gone.
  void Send(int peer, const Frame& frame) { channels_[peer]->Send(frame); }
  // Ends all channels and the threads that read them; no call comes after it. Repeatable. Not for those
  // threads themselves.
  void Close();

 private:
  void Connect(int peer, KeyValueStore& store, Deadline deadline);
  void Read(int peer);

  const int rank_;
  std::vector<std::unique_ptr<Channel>> channels_;  // per rank; null for who is no peer
  std::vector<std::thread> readers_;
  std::atomic<bool> closing_ = false;
  OnFrame on_frame_;
  OnLost on_lost_;
};

}  // namespace sluice::comm
