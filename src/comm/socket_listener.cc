#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/socket_channel.h"

namespace sluice::comm {
namespace {

// One resolved address.
struct Resolved {
  int family = 0;
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

std::vector<Resolved> Resolve(const Address& address, bool listening) {
  std::vector<Resolved> found;
  if (address.is_unix()) {
    Resolved& one = found.emplace_back();
    one.family = AF_UNIX;
    auto& name = reinterpret_cast<sockaddr_un&>(one.storage);
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.path.c_str(), address.path.size() + 1);
    one.bytes = sizeof(sockaddr_un);
    return found;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = listening ? AI_PASSIVE : 0;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &list);
  if (error != 0) {
    Fail(ErrorKind::kNetwork, "host \"{}\" of address {} cannot be resolved: {}", address.host,
         address.ToString(), gai_strerror(error));
  }
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    Resolved& one = found.emplace_back();
    one.family = entry->ai_family;
    one.bytes = entry->ai_addrlen;
    std::memcpy(&one.storage, entry->ai_addr, entry->ai_addrlen);
  }
  freeaddrinfo(list);
  return found;
}

int Milliseconds(Duration duration) {
  const auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return static_cast<int>(std::clamp<int64_t>(count, 0, 1'000'000));
}

// The error of a connect that was begun, 0 once it has succeeded within the timeout.
int ConnectError(int socket, Duration timeout) {
  pollfd wait{socket, POLLOUT, 0};
  if (poll(&wait, 1, Milliseconds(timeout)) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

// While nobody listens on a port of the ephemeral range, the system may pick that very port for the
// connecting socket, which is then connected to itself.
bool ConnectedToItself(int socket) {
  sockaddr_storage own{};
  sockaddr_storage other{};
  socklen_t own_size = sizeof(own);
  socklen_t other_size = sizeof(other);
  return getsockname(socket, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 && own.ss_family != AF_UNIX &&
         getpeername(socket, reinterpret_cast<sockaddr*>(&other), &other_size) == 0 &&
         own_size == other_size && std::memcmp(&own, &other, own_size) == 0;
}

uint16_t PortOf(int socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  SLUICE_CHECK(getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) == 0, "{}",
               std::strerror(errno));
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
}

// A controller that was killed leaves its socket file behind; one that lives answers.
void RemoveStaleSocket(const Address& address) {
  struct stat info {};
  if (lstat(address.path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return;
  if (TryConnect(address, "the present owner", std::chrono::seconds(1)) == nullptr)
    unlink(address.path.c_str());
}

}  // namespace

std::unique_ptr<Channel> TryConnect(const Address& address, const std::string& peer, Duration timeout,
                                    int* error) {
  int last = EADDRNOTAVAIL;
  for (const Resolved& target : Resolve(address, false)) {
    const int one = socket(target.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (one < 0) {
      last = errno;
      continue;
    }
    last = connect(one, target.get(), target.bytes) == 0 ? 0 : errno;
    if (last == EINPROGRESS) last = ConnectError(one, timeout);
    if (last == 0 && ConnectedToItself(one)) last = ECONNREFUSED;
    if (last == 0) return MakeSocketChannel(one, peer);
    close(one);
  }
  if (error != nullptr) *error = last;
  return nullptr;
}

Listener::Listener(const Address& address) : address_(address) {
  if (address.is_unix()) RemoveStaleSocket(address);
  int error = 0;
  for (const Resolved& target : Resolve(address, true)) {
    socket_ = socket(target.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (socket_ < 0) {
      error = errno;
      continue;
    }
    const int on = 1;
    setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(socket_, target.get(), target.bytes) == 0 && listen(socket_, SOMAXCONN) == 0) {
      if (!address.is_unix()) address_.port = PortOf(socket_);
      return;
    }
    error = errno;
    close(socket_);
    socket_ = -1;
  }
  Fail(ErrorKind::kNetwork, "cannot listen on {}: {}; choose an address of this host and a free port",
       address.ToString(), std::strerror(error));
}

Listener::~Listener() {
  close(socket_);
  if (address_.is_unix()) unlink(address_.path.c_str());
}

std::unique_ptr<Channel> Listener::Accept(const std::string& peer, Duration timeout) {
  pollfd wait{socket_, POLLIN, 0};
  if (poll(&wait, 1, Milliseconds(timeout)) <= 0) return nullptr;
  sockaddr_storage from{};
  socklen_t size = sizeof(from);
  const int one = accept4(socket_, reinterpret_cast<sockaddr*>(&from), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (one < 0) return nullptr;
  char host[NI_MAXHOST];
  const bool named =
      from.ss_family != AF_UNIX && getnameinfo(reinterpret_cast<const sockaddr*>(&from), size, host,
                                               sizeof(host), nullptr, 0, NI_NUMERICHOST) == 0;
  return MakeSocketChannel(one, named ? fmt::format("{} from {}", peer, host) : peer);
}

}  // namespace sluice::comm
