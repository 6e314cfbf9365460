#include "text/python_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/test_support.h"

namespace sluice::text {
namespace {

using ::testing::HasSubstr;

// The right-hand sides are what CPython 3.11's json.dumps(json.loads(...), ensure_ascii=False) printed.
TEST(PythonJson, WritesAsPythonDoes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"b":1,"a":[true,false,null],"c":{}})", R"({"b": 1, "a": [true, false, null], "c": {}})"},
      {R"([[],[1,[2]],{"x":{"y":[{}]}}])", R"([[], [1, [2]], {"x": {"y": [{}]}}])"},
      {R"("\u4e2d\n\t\b\f\r\"\\\/\u0001\u007f\u2028")", "\"中\\n\\t\\b\\f\\r\\\"\\\\/\\u0001\x7f\u2028\""},
      {"1.0", "1.0"},
      {"1e5", "100000.0"},
      {"1e15", "1000000000000000.0"},
      {"1e16", "1e+16"},
      {"123456789012345678", "123456789012345678"},
      {"123456789012345678901234567890", "123456789012345678901234567890"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"-1.25e-7", "-1.25e-07"},
      {"2.5e+300", "2.5e+300"},
      {"0.1", "0.1"},
      {"-0.0", "-0.0"},
      {"12.5", "12.5"},
      {"-7", "-7"},
      {" \"a\" ", "\"a\""},
  };
  for (const auto& [text, python] : cases) EXPECT_EQ(PythonJson(text, "x"), python);
}

TEST(PythonJson, MembersOfAnObject) {
  const auto members = PythonJsonMembers(R"({"a":"x \"y\"","b":[1,{"c":2}],"d":1.50,"e":{},"f":null})", "x");
  ASSERT_EQ(members.size(), 5U);
  EXPECT_EQ(members[0].key, "a");
  EXPECT_TRUE(members[0].is_string);
  EXPECT_EQ(members[0].value, "x \"y\"");
  EXPECT_FALSE(members[1].is_string);
  EXPECT_EQ(members[1].value, R"([1, {"c": 2}])");
  EXPECT_EQ(members[2].value, "1.5");
  EXPECT_EQ(members[3].value, "{}");
  EXPECT_EQ(members[4].key, "f");
  EXPECT_EQ(members[4].value, "null");
  EXPECT_TRUE(PythonJsonMembers("{}", "x").empty());
}

TEST(PythonJson, RefusesBySentence) {
  const auto refused = [](const std::string& text) {
    return Refusal(ErrorKind::kBadRequest, [&] { PythonJsonMembers(text, "messages[1].arguments"); });
  };
  EXPECT_THAT(refused("{"), HasSubstr("messages[1].arguments is not valid JSON"));
  EXPECT_THAT(refused(""), HasSubstr("is not valid JSON"));
  EXPECT_THAT(refused("{\"a\": NaN}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(refused("{} x"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(refused("{\"a\": 1e999}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(refused("[1]"), HasSubstr("is not a JSON object"));
  EXPECT_THAT(refused("\"a\""), HasSubstr("is not a JSON object"));
  EXPECT_THAT(refused(R"({"a": {"b": 1, "b": 2}})"), HasSubstr("has the key \"b\" twice"));
}

TEST(PythonJson, DeepNestingIsNoRecursion) {
  std::string deep(100'000, '[');
  deep += std::string(100'000, ']');
  EXPECT_EQ(PythonJson(deep, "x"), deep);
}

}  // namespace
}  // namespace sluice::text
