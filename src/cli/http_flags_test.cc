#include "cli/http_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace sluice::cli {
namespace {

using ::testing::HasSubstr;

std::string HttpRefusal(const HttpFlags& flags) {
  serve::ServerOptions options;
  try {
    ApplyHttpFlags(flags, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "taken";
}

class KeyFile : public ::testing::Test {
 protected:
  void Write(const std::string& text, std::filesystem::perms mode = std::filesystem::perms(0600)) {
    std::ofstream(path_) << text;
    std::filesystem::permissions(path_, mode);
    flags_.api_key_file = path_;
  }
  ~KeyFile() override { std::filesystem::remove(path_); }

  const std::string path_ =
      std::filesystem::temp_directory_path() / ("http_flags_test_" + std::to_string(::getpid()));
  HttpFlags flags_;
};

TEST_F(KeyFile, HasAKeyALineBesideTheFlag) {
  Write("# our clients\nfirst-key\n\nsecond-key\r\n");
  flags_.api_key = "third-key";
  serve::ServerOptions options;
  ApplyHttpFlags(flags_, options);
  EXPECT_THAT(options.api_keys, ::testing::ElementsAre("first-key", "second-key", "third-key"));
}

TEST_F(KeyFile, IsRefusedWhenItIsNotSafe) {
  Write("first-key\n", std::filesystem::perms(0640));
  EXPECT_THAT(HttpRefusal(flags_), HasSubstr("chmod 600"));
  Write("first-key\nshort\n");
  EXPECT_THAT(HttpRefusal(flags_), HasSubstr("line 2"));
  Write("#first-key\n");
  EXPECT_THAT(HttpRefusal(flags_), HasSubstr("no key"));
  flags_.api_key_file = "/no/such/file";
  EXPECT_THAT(HttpRefusal(flags_), HasSubstr("--api-key-file /no/such/file cannot be read"));
}

TEST(HttpFlags, RefusesWhatCannotBeMeant) {
  EXPECT_EQ(HttpRefusal({}), "taken");
  HttpFlags flags;
  flags.api_key = "secret";
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--api-key must have 8 to"));
  EXPECT_THAT(HttpRefusal(flags), ::testing::Not(HasSubstr("secret"))) << "a key is shown nowhere";
  flags.api_key = kMaskedSecret;
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--api-key is ***, which --print-config writes"));
  flags.api_key = "";
  flags.admin_api_key = kMaskedSecret;
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--admin-api-key is ***, which --print-config writes"));
  flags.api_key = "a key with spaces";
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--api-key must have"));
  flags.api_key = flags.admin_api_key = "long-enough";
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--admin-api-key is also a user's key"));
  flags = {};
  flags.admin_port = 70000;
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--admin-port 70000"));
  flags = {};
  flags.cors_allow_origin = {"host.example"};
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--cors-allow-origin host.example"));
  flags = {};
  flags.ssl_certfile = "cert.pem";
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--ssl-keyfile"));
  flags = {};
  flags.drain_timeout = -1;
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--drain-timeout -1"));
  flags = {};
  flags.health_generate_timeout = 0;
  EXPECT_THAT(HttpRefusal(flags), HasSubstr("--health-generate-timeout 0"));
}

TEST(HttpFlags, KeysAreSecrets) {
  EXPECT_TRUE(IsSecret("api-key"));
  EXPECT_TRUE(IsSecret("admin-api-key"));
  EXPECT_FALSE(IsSecret("api-key-file"));
}

}  // namespace
}  // namespace sluice::cli
