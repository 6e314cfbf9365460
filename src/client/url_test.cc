#include "client/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace sluice::client {
namespace {

TEST(Url, IsReadInAllItsForms) {
  const struct {
    const char* text;
    bool tls;
    const char* host;
    int port;
    const char* path;
    const char* written;
  } kCases[] = {
      {"http://127.0.0.1:30000", false, "127.0.0.1", 30000, "", "http://127.0.0.1:30000"},
      {"localhost:8000", false, "localhost", 8000, "", "http://localhost:8000"},
      {"https://example.org", true, "example.org", 443, "", "https://example.org"},
      {"https://example.org:8443/api/v3///", true, "example.org", 8443, "/api/v3",
       "https://example.org:8443/api/v3"},
      {"http://[::1]:9/x", false, "::1", 9, "/x", "http://[::1]:9/x"},
      {"http://h/", false, "h", 80, "", "http://h"},
  };
  for (const auto& expected : kCases) {
    const Url url = ParseUrl(expected.text);
    EXPECT_EQ(url.tls, expected.tls) << expected.text;
    EXPECT_EQ(url.host, expected.host) << expected.text;
    EXPECT_EQ(url.port, expected.port) << expected.text;
    EXPECT_EQ(url.path, expected.path) << expected.text;
    EXPECT_EQ(url.ToString(), expected.written);
  }
}

TEST(Url, RefusesWhatIsNoServer) {
  for (const char* text :
       {"", "ftp://h", "http://", "http://:80", "http://h:0", "http://h:65536", "http://h:", "http://h:8o",
        "http://u@h", "http://h/x?y=1", "http://[::1", "http://[::1]80", "http://h h"}) {
    try {
      ParseUrl(text);
      ADD_FAILURE() << text << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << text;
      EXPECT_THAT(error.what(), testing::HasSubstr(text));
    }
  }
}

}  // namespace
}  // namespace sluice::client
