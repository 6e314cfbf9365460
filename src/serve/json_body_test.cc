#include "serve/json_body.h"

#include <gtest/gtest.h>

#include "serve/errors.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

std::string Refused(const std::string& text) {
  try {
    JsonBody body(text);
    return "";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.refusal(), Refusal::kInvalidJson);
    return error.what();
  }
}

std::string Nested(std::size_t levels) {  // the object itself is a level
  return "{\"a\":" + std::string(levels - 1, '[') + "1" + std::string(levels - 1, ']') + "}";
}

TEST(JsonBody, TakesWhatIsJson) {
  for (const char* text : {"{}", " {\"a\": [1, 2.5, -3e2, null, true, \"x\"]} ", R"({"a": "😀 é"})",
                           R"({"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]})", "{\"k\": \"\xF0\x9F\x98\x80\"}",
                           R"({"a": "\\ud800"})"}) {
    EXPECT_EQ(Refused(text), "") << text;
  }
}

TEST(JsonBody, RefusesEveryBrokenForm) {
  for (const char* text : {"",
                           "   ",
                           "[]",
                           "1",
                           "\"a\"",
                           "null",
                           "{",
                           "{]",
                           "{\"a\":1,}",
                           "{'a':1}",
                           "{\"a\":1} x",
                           "{\"a\":NaN}",
                           "{\"a\":Infinity}",
                           "{\"a\":-Infinity}",
                           "{\"a\":1e999}",
                           "{\"a\":123456789012345678901234567890}",
                           "{\"a\":01}",
                           "{\"a\":\"\x01\"}",
                           "{\"a\":\"\xFF\"}",
                           "{\"a\":\"\xC0\xAF\"}",
                           "{\"a\":\"\xED\xA0\x80\"}",
                           R"({"a":"\ud800"})",
                           R"({"a":"\udc00"})",
                           R"({"a":"\ud800A"})",
                           R"({"a":"\ud800\ud800"})",
                           R"({"\udc00":1})",
                           R"({"a":1,"a":2})",
                           R"({"a":1,"b":2,"a":1})",
                           R"({"b":[{"a":1,"a":2}]})",
                           R"({"a":1,"a":2})",
                           R"({"a":"\x41"})"}) {
    EXPECT_NE(Refused(text), "") << text;
  }
}

TEST(JsonBody, TheDeepestBodyHasSixtyFourLevels) {
  EXPECT_EQ(Refused(Nested(kMaxJsonDepth)), "");
  EXPECT_NE(Refused(Nested(kMaxJsonDepth + 1)).find("64 levels"), std::string::npos);
  EXPECT_NE(Refused(Nested(100'000)), "");
}

}  // namespace
}  // namespace sluice::serve
