#pragma once

#include <simdjson.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::text {

// A value in a JSON file together with its place, written like `pre_tokenizer.pretokenizers[0].type`, so that
// every refusal can say where. A member that the file lacks is a value too and reads as null. All refusals
// are Error(kModelFiles): "FILE: PLACE is FOUND; supported: SUPPORTED."
class JsonValue {
 public:
  using Element = simdjson::dom::element;

  // Token ids are below this: room for any vocabulary, and a table by id stays small.
  static constexpr int64_t kTokenIdEnd = int64_t{1} << 24;

  // `file` must outlive the value.
  JsonValue(const std::string& file, std::string place, std::optional<Element> value)
      : file_(&file), place_(std::move(place)), value_(value) {}

  // "FILE: PLACE"
  std::string where() const;
  bool is_null() const { return !value_.has_value() || value_->is_null(); }

  [[noreturn]] void Refuse(std::string_view found, std::string_view supported) const;
  // The same, what was found being the value itself.
  [[noreturn]] void Refuse(std::string_view supported) const { Refuse(Excerpt(), supported); }

  // The value as one of the JSON types; refused when it is another.
  simdjson::dom::object Object() const { return As<simdjson::dom::object>("an object"); }
  simdjson::dom::array Array() const { return As<simdjson::dom::array>("a list"); }
  std::string_view String() const { return As<std::string_view>("a string"); }
  bool Bool() const { return As<bool>("true or false"); }
  // 0 <= id < kTokenIdEnd.
  int32_t TokenId() const;

  // Refuses all but the one value.
  void ExpectBool(bool value) const;
  void ExpectString(std::string_view value) const;
  void ExpectNull() const;
  // Refuses an object that has a member with another name.
  void ExpectOnly(std::initializer_list<std::string_view> names) const;

  JsonValue operator[](std::string_view key) const;
  JsonValue At(std::size_t index, Element item) const;

 private:
  template <typename T>
  T As(std::string_view what) const {
    T result;
    if (!value_.has_value() || value_->get(result) != simdjson::SUCCESS) Refuse(what);
    return result;
  }
  std::string Excerpt() const;
  std::string Member(std::string_view key) const;

  const std::string* file_;
  std::string place_;
  std::optional<Element> value_;
};

}  // namespace sluice::text
