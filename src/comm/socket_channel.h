#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "comm/address.h"
#include "comm/channel.h"

namespace sluice::comm {

// A channel over a connected stream socket, which it owns from now on. `peer` names the other end in
// sentences
// ("rank 3", "the controller").
std::unique_ptr<Channel> MakeSocketChannel(int socket, std::string peer);

// Connects once, within `timeout`. Returns null when nobody listens there (yet), and why in `error`, as
// errno. Throws Error(kNetwork) when the host's name cannot be resolved.
std::unique_ptr<Channel> TryConnect(const Address& address, const std::string& peer, Duration timeout,
                                    int* error = nullptr);

// A listening socket. TCP listens on the given host's address only; a stale Unix socket that nobody listens
// on is replaced, and the path is removed at the end.
class Listener {
 public:
  // Throws Error(kNetwork) naming the address and the system's reason.
  explicit Listener(const Address& address);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // With the port the system chose where 0 was asked for.
  const Address& address() const { return address_; }
  // The next connection; null when none came within `timeout`. A TCP peer's name ends with its address
  // ("a joining rank from 10.0.0.7").
  std::unique_ptr<Channel> Accept(const std::string& peer, Duration timeout);

 private:
  Address address_;
  int socket_ = -1;
};

}  // namespace sluice::comm
