#include "serve/access.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdio>

#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

class AccessTest : public ServerTest {
 protected:
  RawAnswer Ask(const std::string& method, const std::string& path, const std::string& headers = "",
                uint16_t port = 0) {
    const std::string body = method == "POST" ? "{}" : "";
    return SendOnce(port == 0 ? server_->port() : port,
                    fmt::format("{} {} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{}"
                                "Content-Length: {}\r\n\r\n{}",
                                method, path, headers, body.size(), body));
  }
};

constexpr const char* kUser = "Authorization: Bearer user-key-2\r\n";
constexpr const char* kAdmin = "Authorization: bearer  admin-key\r\n";

TEST_F(AccessTest, EveryRouteButLiveWantsAKey) {
  options_.api_keys = {"user-key-1", "user-key-2"};
  StartServer();
  EXPECT_EQ(Ask("GET", "/live").status, 200);
  for (const char* path :
       {"/ready", "/health", "/health_generate", "/v1/models", "/v1/models/tiny", "/metrics", "/openapi.json",
        "/get_server_info", "/version", "/no-such-route", "/stall_report"}) {
    const RawAnswer answer = Ask("GET", path);
    ExpectRefused(answer, 401, kInvalid, "invalid_api_key");
    EXPECT_EQ(answer.header("www-authenticate"), "Bearer") << path;
  }
  for (const char* path : {"/v1/completions", "/v1/chat/completions", "/generate", "/tokenize", "/detokenize",
                           "/apply-template", "/flush_cache", "/abort_request"}) {
    ExpectRefused(Ask("POST", path), 401, kInvalid, "invalid_api_key");
  }
  for (const char* wrong : {"Authorization: Bearer user-key-3\r\n", "Authorization: Bearer user-key-\r\n",
                            "Authorization: Bearer \r\n", "Authorization: user-key-1\r\n",
                            "Authorization: Basic user-key-1\r\n"}) {
    ExpectRefused(Ask("GET", "/v1/models", wrong), 401, kInvalid, "invalid_api_key");
  }
  EXPECT_EQ(Ask("GET", "/v1/models", kUser).status, 200);
  EXPECT_EQ(Ask("GET", "/v1/models", "Authorization: Bearer user-key-1\r\n").status, 200);
}

TEST_F(AccessTest, AnUnknownClientsBodyIsNotRead) {
  options_.api_keys = {"user-key-1"};
  StartServer();
  RawClient client(server_->port());
  client.Send("POST /v1/completions HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
  ExpectRefused(client.ReadAnswer(), 401, kInvalid, "invalid_api_key");
}

TEST_F(AccessTest, ControlRoutesWantTheAdminKey) {
  options_.api_keys = {"user-key-2"};
  options_.admin_api_key = "admin-key";
  StartServer();
  ExpectRefused(Ask("POST", "/flush_cache"), 401, kInvalid, "invalid_api_key");
  for (const char* path : {"/flush_cache", "/abort_request"}) {
    ExpectRefused(Ask("POST", path, kUser), 403, "permission_error", "forbidden");
  }
  ExpectRefused(Ask("GET", "/stall_report", kUser), 403, "permission_error", "forbidden");
  EXPECT_EQ(Ask("POST", "/flush_cache", kAdmin).status, 200);
  EXPECT_EQ(Ask("GET", "/v1/models", kAdmin).status, 200) << "the admin key opens the users' routes too";
}

TEST_F(AccessTest, WithAUsersKeyAloneThereAreNoControlRoutes) {
  options_.api_keys = {"user-key-2"};
  StartServer();
  const RawAnswer answer = Ask("POST", "/flush_cache", kUser);
  ExpectRefused(answer, 403, "permission_error", "forbidden");
  EXPECT_NE(answer.body.find("--admin-api-key"), std::string::npos);
}

TEST_F(AccessTest, WithoutAnyKeyALoopbackServerHasThemAndAnotherHasNot) {
  StartServer();
  EXPECT_EQ(Ask("POST", "/flush_cache").status, 200);
  server_.reset();
  options_.host = "0.0.0.0";
  StartServer();
  ExpectRefused(Ask("POST", "/flush_cache"), 403, "permission_error", "forbidden");
  EXPECT_EQ(Ask("GET", "/v1/models").status, 200);
}

TEST_F(AccessTest, TheAdminListenerHasThem) {
  options_.admin_port = 0;
  options_.api_keys = {"user-key-2"};
  StartServer();
  ASSERT_NE(server_->admin_port(), server_->port());
  EXPECT_EQ(Ask("POST", "/flush_cache", "", server_->admin_port()).status, 200);
  EXPECT_EQ(Ask("GET", "/stall_report", "", server_->admin_port()).status, 200);
  const RawAnswer answer = Ask("POST", "/flush_cache", kUser);
  ExpectRefused(answer, 403, "permission_error", "forbidden");
  EXPECT_NE(answer.body.find("admin port"), std::string::npos);
  server_.reset();
  options_.admin_api_key = "admin-key";
  StartServer();
  ExpectRefused(Ask("POST", "/flush_cache", "", server_->admin_port()), 401, kInvalid, "invalid_api_key");
  EXPECT_EQ(Ask("POST", "/flush_cache", kAdmin, server_->admin_port()).status, 200);
}

TEST_F(AccessTest, PagesOfOtherSitesAreNotLetIn) {
  StartServer();
  const std::string origin = "Origin: https://page.example\r\n";
  ExpectRefused(Ask("GET", "/flush_cache", origin), 403, "permission_error", "forbidden");
  EXPECT_EQ(Ask("GET", "/flush_cache", "Origin: http://test\r\n").status, 200);
  EXPECT_EQ(Ask("GET", "/v1/models", origin).header("access-control-allow-origin"), "");
  ExpectRefused(Ask("OPTIONS", "/v1/completions", origin), 405, kInvalid, "method_not_allowed");
  server_.reset();
  options_.cors_allow_origins = {"https://page.example"};
  options_.api_keys = {"user-key-2"};
  StartServer();
  const RawAnswer preflight = Ask("OPTIONS", "/v1/completions", origin);
  EXPECT_EQ(preflight.status, 200);
  EXPECT_EQ(preflight.header("access-control-allow-origin"), "https://page.example");
  EXPECT_NE(preflight.header("access-control-allow-headers").find("authorization"), std::string::npos);
  EXPECT_EQ(Ask("GET", "/v1/models", origin + kUser).header("access-control-allow-origin"),
            "https://page.example");
  ExpectRefused(Ask("GET", "/v1/models", origin), 401, kInvalid, "invalid_api_key");
  EXPECT_EQ(Ask("GET", "/v1/models", std::string("Origin: https://other.example\r\n") + kUser)
                .header("access-control-allow-origin"),
            "");
}

TEST_F(AccessTest, BeforeItsEngineIsThereTheServerSaysThatItLoads) {
  Server server(options_);
  server.Start();
  EXPECT_EQ(Ask("GET", "/live", "", server.port()).status, 200);
  for (const char* path : {"/ready", "/health", "/v1/models"}) {
    const RawAnswer answer = Ask("GET", path, "", server.port());
    ExpectRefused(answer, 503, "unavailable_error", "loading");
    EXPECT_EQ(answer.header("retry-after"), "5");
  }
  FakeEngine engine(TestEngineInfo(), [](const engine::Request&) { return Script{}; });
  server.Serve(engine, TestTokenizer(), TestServerInfo());
  EXPECT_EQ(Ask("GET", "/ready", "", server.port()).status, 200);
}

TEST_F(AccessTest, ADrainingServerEndsWhatItHasAndTakesNothingMore) {
  Script script;
  script.tokens = ByteTokens("Hello");
  script.interval = std::chrono::milliseconds(40);
  StartServer(script);
  RawClient client(server_->port());
  client.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"a","max_tokens":5})"));
  ASSERT_TRUE(Eventually([this] { return engine_->running() == 1; }));
  server_->Drain();
  EXPECT_FALSE(server_->idle());
  for (const RawAnswer& answer : {Get("/ready"), Get("/health"), Get("/health_generate"),
                                  Complete(Json::object()), Post("/generate", {{"text", "a"}})}) {
    ExpectRefused(answer, 503, "unavailable_error", "draining");
    EXPECT_EQ(answer.header("retry-after"), "5");
  }
  EXPECT_EQ(Get("/live").status, 200);
  const RawAnswer answer = client.ReadAnswer();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.json()["choices"][0]["text"], "Hello");
  EXPECT_TRUE(Eventually([this] { return server_->idle(); }));
}

// A self-signed certificate and its key, in files.
void MakeCertificate(const std::string& cert_file, const std::string& key_file) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_RSA_gen(2048), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> cert(X509_new(), X509_free);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), 3600);
  X509_set_pubkey(cert.get(), key.get());
  X509_sign(cert.get(), key.get(), EVP_sha256());
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> certs(std::fopen(cert_file.c_str(), "w"),
                                                              std::fclose);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> keys(std::fopen(key_file.c_str(), "w"), std::fclose);
  ASSERT_EQ(PEM_write_X509(certs.get(), cert.get()), 1);
  ASSERT_EQ(PEM_write_PrivateKey(keys.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
}

// What comes back over TLS until the connection ends; empty when no handshake is possible.
std::string SendOverTls(uint16_t port, const std::string& bytes) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  SSL_CTX_free);
  const std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new_ssl_connect(context.get()), BIO_free_all);
  BIO_set_conn_hostname(bio.get(), fmt::format("127.0.0.1:{}", port).c_str());
  if (BIO_do_connect(bio.get()) != 1) return {};
  BIO_write(bio.get(), bytes.data(), static_cast<int>(bytes.size()));
  std::string answer;
  std::array<char, 4096> part{};
  for (int got = 0; (got = BIO_read(bio.get(), part.data(), static_cast<int>(part.size()))) > 0;) {
    answer.append(part.data(), static_cast<std::size_t>(got));
  }
  return answer;
}

TEST_F(AccessTest, TlsCarriesWholeAnswersAndStreams) {
  const auto directory = std::filesystem::temp_directory_path();
  options_.ssl_certfile = directory / fmt::format("serve_cert_{}.pem", ::getpid());
  options_.ssl_keyfile = directory / fmt::format("serve_key_{}.pem", ::getpid());
  MakeCertificate(options_.ssl_certfile, options_.ssl_keyfile);
  StartServer("Hello");
  const std::string whole =
      SendOverTls(server_->port(),
                  PostText("/v1/completions", R"({"model":"tiny","prompt":"a"})", "Connection: close\r\n"));
  EXPECT_EQ(whole.rfind("HTTP/1.1 200", 0), 0U);
  EXPECT_NE(whole.find("\"text\":\"Hello\""), std::string::npos);
  const std::string stream = SendOverTls(
      server_->port(),
      PostText("/v1/completions", R"({"model":"tiny","prompt":"a","stream":true})", "Connection: close\r\n"));
  EXPECT_NE(stream.find("data: [DONE]"), std::string::npos);
  // Two requests on one connection: the watch for a client that leaves is called off in between.
  const std::string twice =
      SendOverTls(server_->port(), PostText("/v1/completions", R"({"model":"tiny","prompt":"a"})") +
                                       "GET /live HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  EXPECT_NE(twice.find("\"status\":\"ok\""), std::string::npos);
  // A client without TLS gets nothing, and does no harm.
  RawClient plain(server_->port());
  plain.Send("GET /live HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_EQ(plain.ReadAnswer().status, 0);
  EXPECT_NE(SendOverTls(server_->port(), "GET /live HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"), "");
  server_.reset();
  options_.ssl_keyfile = options_.ssl_certfile;
  try {
    StartServer();
    FAIL() << "a certificate as its own key";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("--ssl-keyfile"), std::string::npos);
  }
  std::filesystem::remove(options_.ssl_certfile);
}

}  // namespace
}  // namespace sluice::serve
