#include "cli/http_flags.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kShortestKey = 8;
constexpr std::size_t kLongestKey = 4096;

void CheckKey(const std::string& key, const std::string& where) {
  if (key == kMaskedSecret) {
    Fail(ErrorKind::kUsage,
         "{} is {}, which --print-config writes where a key is not shown: put the key there, or leave the "
         "line out",
         where, kMaskedSecret);
  }
  const bool plain = std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 127; });
  if (key.size() >= kShortestKey && key.size() <= kLongestKey && plain) return;
  Fail(ErrorKind::kUsage, "{} must have {} to {} characters of printable ASCII without spaces", where,
       kShortestKey, kLongestKey);
}

// A key a line; empty lines and those that begin with # do not count.
std::vector<std::string> KeysOf(const std::string& path) {
  struct stat status {};
  std::ifstream file(path);
  if (!file || ::stat(path.c_str(), &status) != 0) {
    Fail(ErrorKind::kUsage, "--api-key-file {} cannot be read: {}", path, std::strerror(errno));
  }
  if ((status.st_mode & 077) != 0) {
    Fail(ErrorKind::kUsage, "--api-key-file {} may be read by others: chmod 600 it", path);
  }
  std::vector<std::string> keys;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    CheckKey(line, fmt::format("the key in line {} of --api-key-file {}", number, path));
    keys.push_back(line);
  }
  if (keys.empty()) Fail(ErrorKind::kUsage, "--api-key-file {} has no key: write one a line", path);
  return keys;
}

void CheckRange(const char* flag, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return;
  Fail(ErrorKind::kUsage, "{} {} is out of range: use {} to {}", flag, value, least, most);
}

}  // namespace

void AddHttpFlags(CLI::App& app, HttpFlags& flags) {
  const char* group = "HTTP server";
  app.add_option("--api-key", flags.api_key, "Key that every route but /live wants as a bearer token")
      ->envname("SLUICE_API_KEY")
      ->group(group);
  app.add_option("--api-key-file", flags.api_key_file,
                 "File of mode 600 with a key a line, each as --api-key")
      ->group(group);
  app.add_option("--admin-api-key", flags.admin_api_key, "Key of the control routes; opens the others too")
      ->envname("SLUICE_ADMIN_API_KEY")
      ->group(group);
  app.add_option("--admin-port", flags.admin_port,
                 "Port on 127.0.0.1 of a second listener, which has the control routes; 0 for any free one")
      ->group(group);
  app.add_option("--cors-allow-origin", flags.cors_allow_origin,
                 "Origin whose pages may read answers, or *; may be repeated")
      ->group(group);
  app.add_option("--ssl-certfile", flags.ssl_certfile, "Certificate chain in PEM: HTTPS instead of HTTP")
      ->group(group);
  app.add_option("--ssl-keyfile", flags.ssl_keyfile, "Its private key in PEM, without a passphrase")
      ->group(group);
  app.add_option("--drain-timeout", flags.drain_timeout,
                 "Seconds that running requests have after SIGTERM; a second SIGTERM ends them at once")
      ->group(group);
  app.add_option("--health-generate-timeout", flags.health_generate_timeout,
                 "Seconds that the token of /health_generate has")
      ->group(group);
  app.add_option("--max-prompt-logprobs", flags.max_prompt_logprobs,
                 "Most prompt tokens of one answer whose log-probabilities are given")
      ->group(group);
}

void ApplyHttpFlags(const HttpFlags& flags, serve::ServerOptions& options) {
  CheckRange("--drain-timeout", flags.drain_timeout, 0, 86400);
  CheckRange("--health-generate-timeout", flags.health_generate_timeout, 1, 3600);
  CheckRange("--max-prompt-logprobs", flags.max_prompt_logprobs, 0, 1 << 24);
  if (!flags.api_key_file.empty()) options.api_keys = KeysOf(flags.api_key_file);
  if (!flags.api_key.empty()) {
    CheckKey(flags.api_key, "--api-key");
    options.api_keys.push_back(flags.api_key);
  }
  if (!flags.admin_api_key.empty()) {
    CheckKey(flags.admin_api_key, "--admin-api-key");
    if (std::find(options.api_keys.begin(), options.api_keys.end(), flags.admin_api_key) !=
        options.api_keys.end()) {
      Fail(ErrorKind::kUsage,
           "--admin-api-key is also a user's key, which would make every user an administrator: "
           "use another one");
    }
  }
  options.admin_api_key = flags.admin_api_key;
  if (flags.admin_port != -1) {
    CheckRange("--admin-port", flags.admin_port, 0, 65535);
    options.admin_port = static_cast<uint16_t>(flags.admin_port);
  }
  for (const std::string& origin : flags.cors_allow_origin) {
    if (origin != "*" && !origin.starts_with("http://") && !origin.starts_with("https://")) {
      Fail(ErrorKind::kUsage, "--cors-allow-origin {} is no origin: use such as https://host.example, or *",
           origin);
    }
  }
  options.cors_allow_origins = flags.cors_allow_origin;
  if (flags.ssl_certfile.empty() != flags.ssl_keyfile.empty()) {
    Fail(ErrorKind::kUsage, "--ssl-certfile and --ssl-keyfile belong together: give both or neither");
  }
  options.ssl_certfile = flags.ssl_certfile;
  options.ssl_keyfile = flags.ssl_keyfile;
  options.health_timeout = std::chrono::seconds(flags.health_generate_timeout);
  options.max_prompt_logprobs = flags.max_prompt_logprobs;
}

bool IsSecret(const std::string& name) { return name == "api-key" || name == "admin-api-key"; }

std::string AccessLine(const serve::ServerOptions& options) {
  const std::string users =
      options.api_keys.empty()
          ? "no API key is wanted"
          : fmt::format("every route but /live wants one of {} API keys", options.api_keys.size());
  const std::string control =
      !options.admin_api_key.empty()   ? "control routes want the admin key"
      : options.admin_port.has_value() ? "control routes are on the admin port alone"
      : !options.api_keys.empty()
          ? "there are no control routes (--admin-api-key, --admin-port)"
          : "control routes are open to this host if the server listens on the loopback";
  return fmt::format("{}; {}; {}", options.ssl_certfile.empty() ? "HTTP" : "HTTPS", users, control);
}

}  // namespace sluice::cli
