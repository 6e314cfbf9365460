#include "cli/server_flags.h"

#include "base/error.h"

namespace sluice::cli {

void AddServerFlags(CLI::App& app, ServerFlags& flags) {
  auto* url = app.add_option("--url,--base-url", flags.url, "The server's address, http:// or https://");
  app.add_option("--host", flags.host, "The server's host, in place of --url")
      ->capture_default_str()
      ->excludes(url);
  app.add_option("--port", flags.port, "Its port")->capture_default_str()->excludes(url);
  app.add_option("--api-key", flags.api_key, "Sent as Authorization: Bearer")->envname("SLUICE_API_KEY");
  app.add_option("--timeout", flags.timeout, "Seconds without a byte from the server that end the run")
      ->capture_default_str();
  app.add_option("--ca-file", flags.ca_file, "PEM that the server's certificate is checked by");
  app.add_flag("--insecure", flags.insecure, "Take any certificate");
}

client::ClientOptions ConnectionOf(const ServerFlags& flags) {
  if (!flags.url.empty()) return ConnectionTo(flags.url, flags);
  const bool bare_ipv6 = flags.host.find(':') != std::string::npos && !flags.host.starts_with('[');
  const std::string authority = bare_ipv6 ? fmt::format("[{}]:{}", flags.host, flags.port)
                                          : fmt::format("{}:{}", flags.host, flags.port);
  return ConnectionTo(flags.host.find("://") == std::string::npos ? "http://" + authority : authority, flags);
}

client::ClientOptions ConnectionTo(const std::string& url, const ServerFlags& flags) {
  if (flags.timeout < 1 || flags.timeout > 86400) {
    Fail(ErrorKind::kUsage, "--timeout {} is out of range: use 1 to 86400 seconds", flags.timeout);
  }
  client::ClientOptions options;
  options.server = client::ParseUrl(url);
  if (options.server.path.ends_with("/v1")) options.server.path.resize(options.server.path.size() - 3);
  options.api_key = flags.api_key;
  options.silence_timeout = std::chrono::seconds(flags.timeout);
  options.ca_file = flags.ca_file;
  options.verify_certificate = !flags.insecure;
  return options;
}

}  // namespace sluice::cli
