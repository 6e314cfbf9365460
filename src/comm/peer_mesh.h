#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "comm/channel.h"
#include "comm/key_value_store.h"

namespace sluice::comm {

// Frames between ranks of a world, for a data plane whose transfers cannot say who is there: a
// channel to every peer and a thread that reads it. How a rank ends, the mesh itself has words for; the other
// types of frames, from kFirstType on, are its user's.
class PeerMesh {
 public:
  static constexpr uint16_t kFirstType = 16;

  // Called on the thread that reads `peer`, in the order in which things were told; must not block for long.
  // An Error thrown by Hear ends the channel: it is lost for that reason.
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void Hear(int peer, const Frame& frame) = 0;
    // The peer has ended in good order and tells nothing any more.
    virtual void HearLeft(int peer) = 0;
    // The failure that has ended the peer.
    virtual void HearFailed(ErrorKind kind, const std::string& sentence) = 0;
    // The channel to a peer that has not left has ended, as the sentence says. Also on a thread that tells.
    virtual void HearLost(const std::string& sentence) = 0;
  };

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

  // Reads from now on. Frames that came before are not lost. The handler outlives Close.
  void Start(Handler& handler);
  // These three are for any thread, once Start has been called.
  // False when the peer is lost, which the handler has heard. One that has left has nothing to hear.
  bool Tell(int peer, const Frame& frame);
  // To all peers; those that are gone miss it.
  void TellLeave();
  void TellFailed(ErrorKind kind, const std::string& sentence);
  // Ends all channels and the threads that read them; no call comes after it. Repeatable. Not for those
  // threads themselves.
  void Close();

 private:
  void Connect(int peer, KeyValueStore& store, Deadline deadline);
  void Read(int peer);
  void HearFrom(int peer, const Frame& frame);
  void TellAll(const Frame& frame);
  void Lost(int peer, const std::string& words);

  const int rank_;
  std::vector<std::unique_ptr<Channel>> channels_;  // per rank; null for who is no peer
  std::vector<std::thread> readers_;
  std::vector<std::atomic<bool>> left_;  // per rank
  std::atomic<bool> closing_ = false;
  Handler* handler_ = nullptr;
};

}  // namespace sluice::comm
