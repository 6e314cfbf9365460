#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::comm {

// Where the controller listens: a Unix socket's path, or a host and a TCP port.
struct Address {
  std::string path;  // of a Unix socket; empty for TCP
  std::string host;  // name or number; without the brackets of an IPv6 number
  uint16_t port = 0;

  bool is_unix() const { return !path.empty(); }
  std::string ToString() const;  // in the form ParseAddress reads
  bool operator==(const Address&) const = default;
};

// Reads "unix:/path", "host:port" or "[ipv6]:port". Port 0 asks the system for a free one (listening only).
// Throws Error(kUsage) naming the text and what is wrong with it.
Address ParseAddress(std::string_view text);

// `host` itself, or where it is the name of a network interface of this host the first address of that, IPv4
// before IPv6.
std::string AddressOf(const std::string& host);

// Whether `host` stands for every interface of this host instead of one ("0.0.0.0", "::", "*").
bool IsEveryInterface(std::string_view host);

}  // namespace sluice::comm
