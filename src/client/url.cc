#include "client/url.h"

#include <charconv>

#include "base/error.h"

namespace sluice::client {
namespace {

uint16_t PortOf(std::string_view digits, std::string_view url) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size() || port < 1 || port > 65535) {
    Fail(ErrorKind::kUsage, "{} has no usable port: \"{}\" is not a number from 1 to 65535", url, digits);
  }
  return static_cast<uint16_t>(port);
}

}  // namespace

std::string Url::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? 443 : 80) ? name : fmt::format("{}:{}", name, port);
}

std::string Url::ToString() const {
  return fmt::format("{}://{}{}", tls ? "https" : "http", authority(), path);
}

Url ParseUrl(std::string_view text) {
  Url url;
  std::string_view rest = text;
  if (const std::size_t scheme = rest.find("://"); scheme != std::string_view::npos) {
    const std::string_view name = rest.substr(0, scheme);
    if (name != "http" && name != "https") {
      Fail(ErrorKind::kUsage, "{} is neither an http:// nor an https:// address", text);
    }
    url.tls = name == "https";
    rest.remove_prefix(scheme + 3);
  }
  url.port = url.tls ? 443 : 80;
  if (rest.find_first_of("?#@ \t\r\n") != std::string_view::npos) {
    Fail(ErrorKind::kUsage,
         "{} is not a server's address: give http://host:port, without user, query or spaces", text);
  }
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  url.path = rest.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  const std::string_view authority = rest.substr(0, slash);
  std::size_t end = authority.find(':');
  if (authority.starts_with('[')) {
    const std::size_t bracket = authority.find(']');
    if (bracket == std::string_view::npos) Fail(ErrorKind::kUsage, "{} has a [ without its ]", text);
    url.host = authority.substr(1, bracket - 1);
    end = bracket + 1;
  } else {
    url.host = authority.substr(0, end);
  }
  const std::string_view behind = authority.substr(std::min(end, authority.size()));
  if (behind.starts_with(':')) url.port = PortOf(behind.substr(1), text);
  if (url.host.empty() || (!behind.empty() && !behind.starts_with(':'))) {
    Fail(ErrorKind::kUsage, "{} has no host: give http://host:port", text);
  }
  return url;
}

}  // namespace sluice::client
