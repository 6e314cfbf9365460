#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"

// Payloads of control frames: fields one after the other, little-endian, no padding; lists and strings carry
// their count as 64 bits before them.
namespace sluice {

static_assert(std::endian::native == std::endian::little, "sluice runs on little-endian hosts");

class WireWriter {
 public:
  WireWriter() = default;
  // Makes room for about this many bytes.
  explicit WireWriter(size_t bytes) { bytes_.reserve(bytes); }
  template <typename T>
  void Put(T value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof(T));
  }
  template <typename T>
  void PutList(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    Put<uint64_t>(values.size());
    const auto bytes = std::as_bytes(values);
    // By pointers: with a span's iterators the library copies byte by byte.
    bytes_.insert(bytes_.end(), bytes.data(), bytes.data() + bytes.size());
  }
  void PutString(const std::string& text) { PutList(std::span<const char>(text)); }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Throws Error(kRankLost) instead of reading past the end; counts are checked against the bytes that are left
// before anything is allocated.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <typename T>
  T Get() {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    T value;
    std::memcpy(&value, Bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }
  template <typename T>
  std::vector<T> GetList() {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto count = Get<uint64_t>();
    if (count > left_.size() / sizeof(T)) Short(count);
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), Bytes(count * sizeof(T)).data(), count * sizeof(T));
    return values;
  }
  std::string GetString() {
    const auto text = GetList<char>();
    return {text.begin(), text.end()};
  }
  size_t left() const { return left_.size(); }
  // A payload ends where its last field ends.
  void Done() const {
    if (!left_.empty()) Fail(ErrorKind::kRankLost, "a control frame has {} bytes too many", left_.size());
  }

 private:
  std::span<const std::byte> Bytes(size_t count) {
    if (count > left_.size()) Short(count);
    const auto bytes = left_.first(count);
    left_ = left_.subspan(count);
    return bytes;
  }
  [[noreturn]] void Short(uint64_t wanted) const {
    Fail(ErrorKind::kRankLost, "a control frame ends early: {} more elements announced, {} bytes left",
         wanted, left_.size());
  }
  std::span<const std::byte> left_;
};

}  // namespace sluice
