#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::client {

// Where a server is: scheme, host, port and what stands before every path of its API.
struct Url {
  bool tls = false;
  std::string host;
  uint16_t port = 80;
  std::string path;  // "" or "/prefix", without a slash at the end

  // host:port as the header Host has it; an IPv6 address in brackets, the scheme's own port left out.
  std::string authority() const;
  std::string ToString() const;
};

// http://host:port/prefix, https:// with 443 as the default port, or host:port alone. A query, a fragment, a
// user or another scheme is Error(kUsage).
Url ParseUrl(std::string_view text);

}  // namespace sluice::client
