#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

class WebPageTest : public ServerTest {};

TEST_F(WebPageTest, ThePageAndItsFilesComeFromTheProgram) {
  StartServer("x");
  const std::vector<std::pair<std::string, std::string>> files = {
      {"/", "text/html; charset=utf-8"},
      {"/web/page.css", "text/css; charset=utf-8"},
      {"/web/page.js", "text/javascript; charset=utf-8"},
      {"/web/markdown.js", "text/javascript; charset=utf-8"},
      {"/web/strip.js", "text/javascript; charset=utf-8"},
  };
  const RawAnswer page = Get("/");
  for (const auto& [path, type] : files) {
    const RawAnswer answer = Get(path);
    EXPECT_EQ(answer.status, 200) << path;
    EXPECT_EQ(answer.header("content-type"), type);
    const std::string policy = answer.header("content-security-policy");
    EXPECT_NE(policy.find("default-src 'none'; script-src 'self'"), std::string::npos) << policy;
    EXPECT_EQ(policy.find("unsafe"), std::string::npos) << policy;
    EXPECT_EQ(answer.header("x-content-type-options"), "nosniff");
    if (path != "/") {
      EXPECT_NE(page.body.find(fmt::format("\"{}\"", path)), std::string::npos) << path;
    }
    // Nothing is loaded from elsewhere, and nothing of a model becomes HTML.
    EXPECT_EQ(answer.body.find("//cdn"), std::string::npos);
    EXPECT_EQ(answer.body.find("src=\"http"), std::string::npos);
    EXPECT_EQ(answer.body.find("innerHTML"), std::string::npos);
  }
  EXPECT_EQ(page.body.rfind("<!doctype html>", 0), 0U);
  ExpectRefused(Get("/web/other.js"), 404, "invalid_request_error", "unknown_url");
}

TEST_F(WebPageTest, CanBeTurnedOff) {
  options_.web_page = false;
  StartServer("x");
  ExpectRefused(Get("/"), 404, "invalid_request_error", "unknown_url");
  ExpectRefused(Get("/web/page.js"), 404, "invalid_request_error", "unknown_url");
}

TEST_F(WebPageTest, NeedsNoKeyAndWhatItAsksForDoes) {
  options_.api_keys = {"secret"};
  StartServer("x");
  EXPECT_EQ(Get("/").status, 200);
  EXPECT_EQ(Get("/strip").status, 401);
}

TEST_F(WebPageTest, TheStripIsWhatTheRanksReportedLast) {
  StartServer("x");
  const Json ranks = Get("/strip").json()["ranks"];
  ASSERT_EQ(ranks.size(), 2U);
  EXPECT_EQ(ranks[1], (Json{{"rank", 1}, {"stage", 1}, {"lane", 0}, {"activity", "waits"}, {"step", 42}}));
}

}  // namespace
}  // namespace sluice::serve
