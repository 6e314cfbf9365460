#include "comm/address.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/un.h>

#include <array>
#include <charconv>

#include "base/error.h"

namespace sluice::comm {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr const char* kForms = "use \"host:port\", \"[ipv6]:port\" or \"unix:/path\"";

}  // namespace

std::string Address::ToString() const {
  if (is_unix()) return fmt::format("{}{}", kUnixPrefix, path);
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::string AddressOf(const std::string& host) {
  ifaddrs* list = nullptr;
  if (if_nametoindex(host.c_str()) == 0 || getifaddrs(&list) != 0) return host;
  std::string found = host;
  for (const int family : {AF_INET6, AF_INET}) {
    for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
      if (at->ifa_name != host || at->ifa_addr == nullptr || at->ifa_addr->sa_family != family) continue;
      std::array<char, NI_MAXHOST> text{};
      const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
      if (getnameinfo(at->ifa_addr, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) == 0) {
        found = text.data();
        break;
      }
    }
  }
  freeifaddrs(list);
  return found;
}

bool IsEveryInterface(std::string_view host) { return host == "0.0.0.0" || host == "::" || host == "*"; }

Address ParseAddress(std::string_view text) {
  Address address;
  if (text.starts_with(kUnixPrefix)) {
    address.path = text.substr(kUnixPrefix.size());
    if (!address.path.starts_with('/')) {
      Fail(ErrorKind::kUsage, "address \"{}\": the socket's path must be absolute; {}", text, kForms);
    }
    constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
    if (address.path.size() > kLongest) {
      Fail(ErrorKind::kUsage,
           "address \"{}\": the socket's path has {} characters, the system allows {}; use a shorter one",
           text, address.path.size(), kLongest);
    }
    return address;
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos)
    Fail(ErrorKind::kUsage, "address \"{}\" has no port; {}", text, kForms);
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    Fail(ErrorKind::kUsage, "address \"{}\": an IPv6 number stands in brackets; {}", text, kForms);
  }
  if (host.empty()) Fail(ErrorKind::kUsage, "address \"{}\" has no host; {}", text, kForms);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size()) {
    Fail(ErrorKind::kUsage, "address \"{}\": \"{}\" is not a port between 0 and 65535; {}", text, port,
         kForms);
  }
  address.host = host;
  return address;
}

}  // namespace sluice::comm
