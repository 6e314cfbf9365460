#include "text/python_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"

namespace sluice::text {
namespace {

using SortedJson = nlohmann::json;

// Python's repr of a float: the shortest digits that read back as it, without an exponent from 1e-4 to below
// 1e16.
std::string PythonFloat(double value) {
  std::array<char, 32> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  std::string_view text(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
  std::string result;
  if (text.front() == '-') {
    result = "-";
    text.remove_prefix(1);
  }
  const std::size_t e = text.find('e');
  std::string digits(text.substr(0, 1));
  if (e > 2) digits += text.substr(2, e - 2);
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    result += digits.front();
    if (count > 1) result.append(".").append(digits, 1);
    return result + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return result + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) {
    return result + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  }
  const auto point = static_cast<std::size_t>(exponent) + 1;
  return result + digits.substr(0, point) + "." + digits.substr(point);
}

// Writes the values it is told of by the parser. A tree would lose integers beyond 64 bits.
class Writer : public nlohmann::json_sax<SortedJson> {
 public:
  // With `members` the value must be an object, whose members are collected apart.
  explicit Writer(bool members) : split_(members) {}

  bool null() override { return Value("null"); }
  bool boolean(bool value) override { return Value(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return Value(fmt::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Value(fmt::to_string(value)); }
  bool number_float(number_float_t value, const string_t& raw) override {
    // An integer beyond 64 bits comes here too.
    if (raw.find_first_of(".eE") == std::string::npos) return Value(raw);
    return Value(PythonFloat(value));
  }
  bool string(string_t& value) override {
    if (split_ && levels_.size() == 1) {
      members_.push_back({key_, true, value});
      return true;
    }
    return Value(PythonJsonString(value));
  }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*size*/) override { return Open(true); }
  bool start_array(std::size_t /*size*/) override { return Open(false); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& value) override {
    if (!levels_.back().keys.insert(value).second) {
      problem_ = fmt::format("has the key \"{}\" twice", value);
      return false;
    }
    if (split_ && levels_.size() == 1) {
      key_ = value;
      return true;
    }
    if (levels_.back().keys.size() > 1) text_ += ", ";
    text_.append(PythonJsonString(value)).append(": ");
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    problem_ = fmt::format("is not valid JSON at byte {}", position);
    return false;
  }

  const std::string& problem() const { return problem_; }
  std::string text() { return std::move(text_); }
  std::vector<JsonMember> members() { return std::move(members_); }

 private:
  struct Level {
    bool object;
    std::set<std::string> keys{};
    bool begun = false;  // of a list
  };

  bool Separate() {
    if (split_ && levels_.empty()) {
      problem_ = "is not a JSON object";
      return false;
    }
    if (!levels_.empty() && !levels_.back().object) {
      if (levels_.back().begun) text_ += ", ";
      levels_.back().begun = true;
    }
    return true;
  }
  // A member's value is complete when the text goes back to the outermost object.
  void EndMember() {
    if (!split_ || levels_.size() != 1) return;
    members_.push_back({key_, false, std::move(text_)});
    text_.clear();
  }
  bool Value(const std::string& text) {
    if (!Separate()) return false;
    text_ += text;
    EndMember();
    return true;
  }
  bool Open(bool object) {
    const bool outermost = split_ && levels_.empty() && object;
    if (!outermost) {
      if (!Separate()) return false;
      text_ += object ? '{' : '[';
    }
    levels_.push_back({object});
    return true;
  }
  bool Close() {
    const bool object = levels_.back().object;
    levels_.pop_back();
    if (split_ && levels_.empty()) return true;
    text_ += object ? '}' : ']';
    EndMember();
    return true;
  }

  bool split_;
  std::string text_;
  std::string problem_;
  std::string key_;
  std::vector<Level> levels_;
  std::vector<JsonMember> members_;
};

void Read(std::string_view text, const std::string& what, Writer& writer) {
  if (!SortedJson::sax_parse(text, &writer)) Fail(ErrorKind::kBadRequest, "{} {}.", what, writer.problem());
}

}  // namespace

std::string PythonJson(std::string_view text, const std::string& what) {
  Writer writer(false);
  Read(text, what, writer);
  return writer.text();
}

std::string PythonJsonString(std::string_view text) {
  return SortedJson(text).dump(-1, ' ', false, SortedJson::error_handler_t::replace);
}

std::vector<JsonMember> PythonJsonMembers(std::string_view text, const std::string& what) {
  Writer writer(true);
  Read(text, what, writer);
  return writer.members();
}

bool IsJson(std::string_view text) { return SortedJson::accept(text); }

bool IsJsonObject(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{' && IsJson(text);
}

}  // namespace sluice::text
