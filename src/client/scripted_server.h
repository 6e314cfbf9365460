#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/error.h"
#include "client/url.h"

namespace sluice::client {

// A request as it came: its head, from the method to the blank line, and its body.
struct ReceivedRequest {
  int connection = 0;  // counted from 0
  std::string head;
  std::string body;
};

// What a scripted server sends, piece by piece with a pause before each but the first, and what it does then.
struct ScriptedAnswer {
  std::vector<std::string> pieces;
  enum { kKeepOpen, kClose, kStaySilent } then = kKeepOpen;
};

// A loopback server for tests that answers as it is told. Each connection has a thread; all end with it.
class ScriptedServer {
 public:
  using Script = std::function<ScriptedAnswer(const ReceivedRequest&)>;

  explicit ScriptedServer(Script script) : script_(std::move(script)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_, 256) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      Fail(ErrorKind::kNetwork, "the test cannot listen on a loopback port");
    }
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~ScriptedServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    for (const int socket : sockets_) ::close(socket);
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  Url url() const { return {.tls = false, .host = "127.0.0.1", .port = port_, .path = ""}; }

 private:
  void Accept() {
    for (;;) {
      const int socket = ::accept(listener_, nullptr, nullptr);
      if (socket < 0 || stopping_) {
        if (socket >= 0) ::close(socket);
        return;
      }
      const std::lock_guard lock(mutex_);
      const int number = static_cast<int>(sockets_.size());
      sockets_.push_back(socket);
      threads_.emplace_back([this, socket, number] { Serve(socket, number); });
    }
  }

  void Serve(int socket, int number) {
    std::string buffer;
    for (;;) {
      ReceivedRequest request;
      request.connection = number;
      if (!ReadRequest(socket, buffer, request)) return;
      const ScriptedAnswer answer = script_(request);
      for (std::size_t i = 0; i < answer.pieces.size(); ++i) {
        if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(30));
        ::send(socket, answer.pieces[i].data(), answer.pieces[i].size(), MSG_NOSIGNAL);
      }
      if (answer.then == ScriptedAnswer::kClose) {
        ::shutdown(socket, SHUT_RDWR);
        return;
      }
      while (answer.then == ScriptedAnswer::kStaySilent && More(socket, buffer)) {
      }
    }
  }

  static bool More(int socket, std::string& buffer) {
    char bytes[16384];
    const ssize_t got = ::recv(socket, bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  static bool ReadRequest(int socket, std::string& buffer, ReceivedRequest& request) {
    std::size_t end = 0;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
      if (!More(socket, buffer)) return false;
    }
    request.head = buffer.substr(0, end + 4);
    const std::size_t length = request.head.find("Content-Length: ");
    const std::size_t size = length == std::string::npos ? 0 : std::stoul(request.head.substr(length + 16));
    while (buffer.size() < end + 4 + size) {
      if (!More(socket, buffer)) return false;
    }
    request.body = buffer.substr(end + 4, size);
    buffer.erase(0, end + 4 + size);
    return true;
  }

  Script script_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<int> sockets_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// A whole answer of this status with a JSON body.
inline std::string JsonAnswer(std::string_view body, int status = 200) {
  return fmt::format("HTTP/1.1 {} Text\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                     status, body.size(), body);
}

}  // namespace sluice::client
