#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serve/errors.h"
#include "serve/exchange.h"
#include "serve/server.h"

namespace sluice::serve {

// Who may use which route. Every route but /live needs one of the keys, when there are keys. Control routes
// need more: the admin key where there is one; otherwise the admin listener; with neither they are open only
// on a server without keys that listens on the loopback alone.
class Access {
 public:
  explicit Access(const ServerOptions& options);

  // The refusal of a request by its head, if it has one. `admin` is whether it came by the admin listener,
  // `loopback` whether the listener has a loopback address.
  std::optional<ApiError> Refuse(const HttpRequest& request, bool admin, bool loopback) const;

  // Whether pages of this origin may read answers.
  bool AllowsOrigin(const std::string& origin) const;

 private:
  using Digest = std::string;  // SHA-256: comparing takes the same time for every key

  bool Knows(const std::vector<Digest>& keys, const std::string& authorization) const;

  std::vector<Digest> users_;
  std::vector<Digest> admins_;
  std::vector<std::string> origins_;
  bool admin_listener_;
};

}  // namespace sluice::serve
