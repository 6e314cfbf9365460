#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "serve/json.h"

namespace sluice::serve {

// An answer as it came over the wire; header names in lower case, chunked bodies joined.
struct RawAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;
  std::string body;
  bool complete = false;  // the body ended where the headers said

  Json json() const { return Json::parse(body); }
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
  // The code of an error answer, "" without one.
  std::string code() const {
    const Json value = Json::parse(body, nullptr, false);
    return value.is_object() && value.contains("error") ? value["error"]["code"].get<std::string>() : "";
  }
};

// A loopback connection for tests, with nothing between the test and the bytes. Every read gives up after 5
// s.
class RawClient {
 public:
  explicit RawClient(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{5, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      Fail(ErrorKind::kNetwork, "the test cannot connect to port {}", port);
    }
  }
  ~RawClient() { Close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void Close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  // False when the server has closed the connection.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  // More bytes into the buffer; false at the end of the stream or when it is time to give up.
  bool Read() {
    if (Clock::now() > give_up_) return false;
    char bytes[16384];
    const ssize_t got = ::recv(socket_, bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  // Reads until the buffer has `text`, and returns everything before its end.
  std::string ReadUntil(std::string_view text) {
    std::size_t at = 0;
    while ((at = buffer_.find(text)) == std::string::npos) {
      if (!Read()) return {};
    }
    return Take(at + text.size());
  }

  RawAnswer ReadAnswer() {
    RawAnswer answer;
    const std::string head = ReadUntil("\r\n\r\n");
    if (head.size() < 12) return answer;
    answer.status = std::stoi(head.substr(9, 3));
    for (std::size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
      const std::size_t end = head.find("\r\n", at);
      const std::string line = head.substr(at, end - at);
      const std::size_t colon = line.find(": ");
      std::string name = line.substr(0, colon);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      answer.headers[name] = line.substr(colon + 2);
      at = end + 2;
    }
    if (answer.header("transfer-encoding") == "chunked") {
      for (;;) {
        const std::string size = ReadUntil("\r\n");
        if (size.empty()) return answer;
        const std::size_t bytes = std::stoul(size, nullptr, 16);
        answer.body += Exactly(bytes);
        if (ReadUntil("\r\n").empty()) return answer;
        if (bytes == 0) break;
      }
      answer.complete = true;
    } else if (!answer.header("content-length").empty()) {
      const std::size_t bytes = std::stoul(answer.header("content-length"));
      answer.body = Exactly(bytes);
      answer.complete = answer.body.size() == bytes;
    } else {
      while (Read()) {
      }
      answer.body = Take(buffer_.size());
      answer.complete = true;
    }
    return answer;
  }

 private:
  std::string Take(std::size_t bytes) {
    std::string taken = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return taken;
  }
  std::string Exactly(std::size_t bytes) {
    while (buffer_.size() < bytes && Read()) {
    }
    return Take(bytes);
  }

  int socket_;
  const Deadline give_up_ = Clock::now() + std::chrono::seconds(15);
  std::string buffer_;
};

inline std::string PostText(const std::string& path, const std::string& body, const std::string& headers = "",
                            const std::string& type = "application/json") {
  return fmt::format("POST {} HTTP/1.1\r\nHost: test\r\nContent-Type: {}\r\n{}Content-Length: {}\r\n\r\n{}",
                     path, type, headers, body.size(), body);
}

inline RawAnswer SendOnce(uint16_t port, const std::string& bytes) {
  RawClient client(port);
  client.Send(bytes);
  return client.ReadAnswer();
}

// The events of a stream. A line that is neither `data: ...` nor a comment, or an event of more than one
// line, becomes an event "bad: ...".
inline std::vector<std::string> EventsOf(const std::string& body) {
  std::vector<std::string> events;
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t end = body.find("\n\n", at);
    const std::string block = body.substr(at, end - at);
    const bool one_line = end != std::string::npos && block.find('\n') == std::string::npos;
    if (one_line && block.starts_with("data: ")) {
      events.push_back(block.substr(6));
    } else if (!one_line || !block.starts_with(':')) {
      events.push_back("bad: " + block);
    }
    if (end == std::string::npos) break;
    at = end + 2;
  }
  return events;
}

}  // namespace sluice::serve
