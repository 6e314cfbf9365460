#include "doctor/network.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/socket_channel.h"

namespace sluice::doctor {
namespace {

constexpr const char* kRdmaDevices = "/sys/class/infiniband";

struct Interface {
  bool loopback = false;
  bool up = false;
  std::vector<std::string> addresses;
};

// As a number, without the interface that getnameinfo appends to link-local ones; empty for other families.
std::string ShownAddress(const sockaddr* address) {
  if (address == nullptr || (address->sa_family != AF_INET && address->sa_family != AF_INET6)) return "";
  const socklen_t size = address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  char host[NI_MAXHOST];
  if (getnameinfo(address, size, host, sizeof(host), nullptr, 0, NI_NUMERICHOST) != 0) return "";
  const std::string text = host;
  return text.substr(0, text.find('%'));
}

std::map<std::string, Interface> Interfaces() {
  std::map<std::string, Interface> interfaces;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return interfaces;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    Interface& one = interfaces[entry->ifa_name];
    one.loopback = (entry->ifa_flags & IFF_LOOPBACK) != 0;
    one.up = (entry->ifa_flags & IFF_UP) != 0 && (entry->ifa_flags & IFF_RUNNING) != 0;
    const std::string address = ShownAddress(entry->ifa_addr);
    if (!address.empty()) one.addresses.push_back(address);
  }
  freeifaddrs(list);
  return interfaces;
}

// A number of /sys/class/net/NAME; 0 where the driver does not say.
int64_t Property(const std::string& name, const char* property) {
  std::ifstream file(std::filesystem::path("/sys/class/net") / name / property);
  int64_t value = 0;
  return file >> value && value > 0 ? value : 0;
}

std::vector<std::string> Resolve(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error != 0) Fail(ErrorKind::kNetwork, "{} cannot be resolved: {}", host, gai_strerror(error));
  std::vector<std::string> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    addresses.push_back(ShownAddress(entry->ai_addr));
  }
  freeaddrinfo(list);
  return addresses;
}

bool IsLoopback(const std::string& address) { return address.starts_with("127.") || address == "::1"; }

bool IsOwn(const std::string& address) {
  if (IsLoopback(address)) return true;
  const auto interfaces = Interfaces();
  return std::any_of(interfaces.begin(), interfaces.end(), [&](const auto& entry) {
    return std::find(entry.second.addresses.begin(), entry.second.addresses.end(), address) !=
           entry.second.addresses.end();
  });
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += fmt::format("{}{}", text.empty() ? "" : ", ", word);
  return text;
}

}  // namespace

bool HasRdmaDevices() {
  std::error_code ignored;
  return std::filesystem::exists(kRdmaDevices, ignored) && !std::filesystem::is_empty(kRdmaDevices, ignored);
}

Findings LookAtInterfaces() {
  Findings findings;
  bool reachable = false;
  for (const auto& [name, one] : Interfaces()) {
    if (!one.up || one.addresses.empty()) continue;
    reachable = reachable || !one.loopback;
    const int64_t speed = Property(name, "speed");
    findings.push_back(
        Ok(fmt::format("interface {}", name),
           fmt::format("{}; packets of {} bytes{}", Joined(one.addresses), Property(name, "mtu"),
                       speed > 0 ? fmt::format(", {} Mb/s", speed) : "")));
  }
  if (!reachable) {
    findings.push_back(Warn("network", "no interface beside the loopback has an address",
                            "jobs of one host work; for several, bring a network up"));
  }
  std::vector<std::string> devices;
  if (HasRdmaDevices()) {
    for (const auto& entry : std::filesystem::directory_iterator(kRdmaDevices)) {
      devices.push_back(entry.path().filename());
    }
  }
  findings.push_back(Ok("RDMA devices", devices.empty() ? "none, hosts talk over TCP" : Joined(devices)));
  return findings;
}

Finding LookAtHostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  const std::string host = name.data();
  try {
    const std::vector<std::string> addresses = Resolve(host);
    const std::string found = fmt::format("{} is {}", host, Joined(addresses));
    if (std::all_of(addresses.begin(), addresses.end(), IsLoopback)) {
      return Warn(
          "host name", found,
          "other hosts cannot reach that: name addresses, not this host's name, in --dist-init-addr and "
          "--data-plane-addr");
    }
    return Ok("host name", found);
  } catch (const Error& error) {
    return Warn("host name", error.what(),
                "name addresses, not this host's name, in --dist-init-addr and --data-plane-addr");
  }
}

Finding LookAtMeetingPoint(const comm::Address& address, Duration timeout) {
  const std::string what = fmt::format("meeting point {}", address.ToString());
  std::vector<std::string> addresses;
  try {
    if (!address.is_unix()) addresses = Resolve(address.host);
    if (std::all_of(addresses.begin(), addresses.end(), IsOwn)) {
      const comm::Listener listener(address);
      return Ok(what, "an address of this host that can be listened on");
    }
  } catch (const Error& error) {
    return Bad(what, error.what(), "give node 0's address and a port that is free there");
  }
  const auto begin = Clock::now();
  int error = 0;
  const auto channel = comm::TryConnect(address, "node 0", timeout, &error);
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  const std::string where = fmt::format("{}", Joined(addresses));
  if (channel != nullptr) return Ok(what, fmt::format("{} was connected to within {:.1f} ms", where, ms));
  if (error == ECONNREFUSED) {
    return Warn(what, fmt::format("{} is reached and nobody listens there", where),
                "as it should be until node 0 is started; else check the port");
  }
  return Bad(what, fmt::format("{} is not reached: {}", where, std::strerror(error)),
             "check the address, routes, and firewalls on the way");
}

}  // namespace sluice::doctor
