#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::text {

// JSON as Python's json.dumps(json.loads(text), ensure_ascii=False) writes it, which is how DeepSeek's
// encoding writes schemas and arguments into a prompt: one line, ", " and ": " between the parts, members in
// the order of `text`, floats in Python's shortest form, integers digit by digit.

// `what` names the text in refusals. Error(kBadRequest) unless `text` is one JSON value in UTF-8 without
// duplicate keys and without numbers beyond a double.
std::string PythonJson(std::string_view text, const std::string& what);

// The text of a string in that form, with its quotes. Bytes that are not UTF-8 become U+FFFD.
std::string PythonJsonString(std::string_view text);

struct JsonMember {
  std::string key;
  bool is_string;
  std::string value;  // a string as it is, without quotes; anything else in the form above
};

// The members of an object, in order. Error(kBadRequest) as above, and unless `text` is an object.
std::vector<JsonMember> PythonJsonMembers(std::string_view text, const std::string& what);

// Whether `text` is one JSON value, or one JSON object.
bool IsJson(std::string_view text);
bool IsJsonObject(std::string_view text);

}  // namespace sluice::text
