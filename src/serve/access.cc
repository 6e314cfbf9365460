#include "serve/access.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>

#include "serve/route_table.h"

namespace sluice::serve {
namespace {

std::string DigestOf(std::string_view text) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

// The key of "Bearer KEY", whatever the case of the word; empty when there is none.
std::string_view KeyOf(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  const bool bearer = std::equal(kScheme.begin(), kScheme.end(), authorization.begin(),
                                 [](char wanted, char found) { return wanted == (found | 0x20); });
  if (!bearer) return {};
  authorization.remove_prefix(kScheme.size());
  while (authorization.starts_with(' ')) authorization.remove_prefix(1);
  return authorization;
}

Audience AudienceOf(const std::string& path) {
  for (const RouteRow& row : Routes()) {
    if (Matches(row, path)) return row.audience;
  }
  return Audience::kUsers;
}

// A page of another site may send a browser here without being asked; Host is what the browser took this
// server for.
bool FromAnotherSite(const HttpRequest& request) {
  return !request.origin.empty() && request.origin != "http://" + request.host &&
         request.origin != "https://" + request.host;
}

}  // namespace

Access::Access(const ServerOptions& options)
    : origins_(options.cors_allow_origins), admin_listener_(options.admin_port.has_value()) {
  for (const std::string& key : options.api_keys) users_.push_back(DigestOf(key));
  if (!options.admin_api_key.empty()) admins_.push_back(DigestOf(options.admin_api_key));
}

bool Access::Knows(const std::vector<Digest>& keys, const std::string& authorization) const {
  const Digest shown = DigestOf(KeyOf(authorization));
  bool known = false;
  for (const Digest& key : keys) known |= CRYPTO_memcmp(key.data(), shown.data(), shown.size()) == 0;
  return known;
}

std::optional<ApiError> Access::Refuse(const HttpRequest& request, bool admin, bool loopback) const {
  const Audience audience = AudienceOf(request.path);
  if (audience == Audience::kAnyone) return std::nullopt;
  if (request.method == "OPTIONS" && AllowsOrigin(request.origin)) return std::nullopt;  // sends no key
  const bool is_admin = Knows(admins_, request.authorization);
  const bool is_user = is_admin || Knows(users_, request.authorization);
  const bool open = admin ? admins_.empty() : users_.empty();
  if (!open && !is_user) {
    return ApiError(Refusal::kInvalidApiKey,
                    request.authorization.empty()
                        ? "this server wants an API key; send it as Authorization: Bearer KEY"
                        : "the API key is not one that this server knows");
  }
  if (audience != Audience::kControl) return std::nullopt;
  if (FromAnotherSite(request) && !AllowsOrigin(request.origin)) {
    return ApiError(Refusal::kForbidden,
                    fmt::format("{} is not for pages of another site", Quoted(request.path)));
  }
  if (is_admin) return std::nullopt;
  if (admins_.empty() && (admin || (!admin_listener_ && users_.empty() && loopback))) return std::nullopt;
  return ApiError(
      Refusal::kForbidden,
      fmt::format("{} is for those who look after this server: {}", Quoted(request.path),
                  !admins_.empty()  ? "send the admin API key"
                  : admin_listener_ ? "it is on the admin port"
                                    : "start it with --admin-api-key or --admin-port to have this route"));
}

bool Access::AllowsOrigin(const std::string& origin) const {
  if (origin.empty()) return false;
  return std::any_of(origins_.begin(), origins_.end(),
                     [&origin](const std::string& allowed) { return allowed == "*" || allowed == origin; });
}

}  // namespace sluice::serve
