#include "checkpoint/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/json_file.h"

namespace sluice::checkpoint {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr size_t kMostDimensions = 8;
constexpr size_t kLongestName = 200;

std::optional<DType> DTypeOf(const nlohmann::json& name) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3}) {
    if (name == NameOf(dtype)) return dtype;
  }
  return std::nullopt;
}

std::optional<int64_t> NonNegative(const nlohmann::json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return std::nullopt;
  return value.get<int64_t>();
}

// All of a list of non-negative integers, or nothing.
std::optional<std::vector<int64_t>> Integers(const nlohmann::json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<int64_t> integers;
  integers.reserve(value.size());
  for (const auto& element : value) {
    const std::optional<int64_t> integer = NonNegative(element);
    if (!integer) return std::nullopt;
    integers.push_back(*integer);
  }
  return integers;
}

// One tensor by itself, or nullopt after adding one defect.
std::optional<TensorEntry> ParseEntry(const nlohmann::json& value, int64_t data_begin, int64_t data_bytes,
                                      const std::string& where, Defects& defects) {
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets") || value.size() != 3) {
    defects.Add("{} is {}; an object with \"dtype\", \"shape\" and \"data_offsets\" alone is expected.",
                where, ShownJson(value));
    return std::nullopt;
  }
  const std::optional<DType> dtype = DTypeOf(value["dtype"]);
  if (!dtype) {
    defects.Add("{} has dtype {}; F32, BF16, F16 and F8_E4M3 are supported.", where,
                ShownJson(value["dtype"]));
    return std::nullopt;
  }
  const std::optional<std::vector<int64_t>> shape = Integers(value["shape"]);
  if (!shape || shape->size() > kMostDimensions) {
    defects.Add("{} has shape {}; a list of at most {} non-negative integers is expected.", where,
                ShownJson(value["shape"]), kMostDimensions);
    return std::nullopt;
  }
  const std::optional<std::vector<int64_t>> offsets = Integers(value["data_offsets"]);
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    defects.Add("{} has data_offsets {}; [begin, end] with 0 <= begin <= end is expected.", where,
                ShownJson(value["data_offsets"]));
    return std::nullopt;
  }
  const int64_t begin = (*offsets)[0];
  const int64_t end = (*offsets)[1];
  if (end > data_bytes) {
    defects.Add("{} ends at data byte {}, but the file has {} data bytes: it is cut or its header is wrong.",
                where, end, data_bytes);
    return std::nullopt;
  }
  std::optional<int64_t> bytes = SizeOf(*dtype);
  for (const int64_t extent : *shape) {
    if (bytes) bytes = CheckedMul(*bytes, extent);
  }
  if (!bytes) {
    defects.Add("{} has shape {}, whose product does not fit 64 bits.", where, ShownShape(*shape));
    return std::nullopt;
  }
  if (*bytes != end - begin) {
    defects.Add("{} has {} bytes by its offsets, but {} {} needs {}.", where, end - begin, NameOf(*dtype),
                ShownShape(*shape), *bytes);
    return std::nullopt;
  }
  return TensorEntry{*dtype, *shape, data_begin + begin, *bytes};
}

// Every data byte belongs to exactly one tensor. With `complete` false some entries are unknown, so that
// only overlaps can be told.
void CheckSpans(const std::map<std::string, TensorEntry>& tensors, bool complete, int64_t data_begin,
                int64_t file_bytes, const std::string& where, Defects& defects) {
  struct Span {
    int64_t begin, end;
    const std::string* name;
  };
  std::vector<Span> spans;
  spans.reserve(tensors.size());
  for (const auto& [name, entry] : tensors) spans.push_back({entry.begin, entry.begin + entry.bytes, &name});
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::tie(a.begin, a.end, *a.name) < std::tie(b.begin, b.end, *b.name);
  });
  int64_t covered = data_begin;
  const std::string* last = nullptr;
  for (const Span& span : spans) {
    if (span.begin < covered) {
      defects.Add("{}: tensors {} and {} overlap by {} bytes.", where, Shown(*last), Shown(*span.name),
                  std::min(covered, span.end) - span.begin);
    } else if (span.begin > covered && complete) {
      defects.Add("{}: {} bytes before tensor {} belong to no tensor.", where, span.begin - covered,
                  Shown(*span.name));
    }
    if (span.end >= covered) {
      covered = span.end;
      last = span.name;
    }
  }
  if (complete && covered < file_bytes) {
    defects.Add("{}: {} bytes at the end of the file belong to no tensor.", where, file_bytes - covered);
  }
}

}  // namespace

std::string ShownShape(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

SafetensorsHeader ParseSafetensorsHeader(std::string_view json, int64_t data_begin, int64_t file_bytes,
                                         const std::string& where, Defects& defects) {
  SafetensorsHeader result;
  const std::optional<nlohmann::json> header =
      ParseJsonObject(json, fmt::format("{}: the header", where), defects);
  if (!header) return result;
  result.readable = true;
  for (const auto& [name, value] : header->items()) {
    if (name == "__metadata__") continue;
    std::optional<TensorEntry> entry;
    if (name.empty() || name.size() > kLongestName || name != Shown(name)) {
      defects.Add("{}: \"{}\" is not a tensor name; 1 to {} printable ASCII characters are expected.", where,
                  Shown(name), kLongestName);
    } else {
      entry = ParseEntry(value, data_begin, file_bytes - data_begin,
                         fmt::format("{}: tensor {}", where, name), defects);
    }
    if (entry) {
      result.tensors.emplace(name, std::move(*entry));
    } else {
      result.broken.insert(name);
    }
  }
  CheckSpans(result.tensors, result.broken.empty(), data_begin, file_bytes, where, defects);
  return result;
}

SafetensorsFile ReadSafetensorsHeader(const std::filesystem::path& path, Defects& defects) {
  SafetensorsFile result;
  result.path = path;
  const std::string where = path.string();
  try {
    const OpenFile file(path);
    result.identity = file.identity();
    if (file.bytes() < kLengthBytes) {
      defects.Add("{} has {} bytes; a safetensors file begins with 8 bytes of header length.", where,
                  file.bytes());
      return result;
    }
    std::array<std::byte, kLengthBytes> length_bytes{};
    file.ReadAt(0, length_bytes);
    uint64_t length = 0;
    for (size_t i = 0; i < length_bytes.size(); ++i) {
      length |= static_cast<uint64_t>(length_bytes[i]) << (8 * i);
    }
    const int64_t most = std::min(file.bytes() - kLengthBytes, kMaxJsonBytes);
    if (length < 2 || length > static_cast<uint64_t>(most)) {
      defects.Add("{} says that its header has {} bytes; 2 to {} are possible in a file of {} bytes.", where,
                  length, most, file.bytes());
      return result;
    }
    std::string json(static_cast<size_t>(length), '\0');
    file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(json)));
    result.header = ParseSafetensorsHeader(json, kLengthBytes + static_cast<int64_t>(length), file.bytes(),
                                           where, defects);
  } catch (const Error& error) {
    defects.Add("{}", error.what());
  }
  return result;
}

}  // namespace sluice::checkpoint
