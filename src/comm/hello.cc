#include "comm/hello.h"

#include <fmt/format.h>

#include <optional>
#include <sstream>
#include <utility>

#include "base/wire.h"

namespace sluice::comm {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

// In the order they stand; nothing when they are not pairs.
std::optional<Fields> FieldsOf(const std::string& description) {
  std::istringstream words(description);
  Fields fields;
  std::string name;
  std::string value;
  while (words >> name) {
    if (!(words >> value)) return std::nullopt;
    fields.emplace_back(name, value);
  }
  return fields;
}

const std::string* Find(const Fields& fields, const std::string& name) {
  for (const auto& field : fields) {
    if (field.first == name) return &field.second;
  }
  return nullptr;
}

// The fields of `fields` that `others` has not, or not with this value: "pp 3, pages 512". `missing` are
// added by name.
std::string Differing(const Fields& fields, const Fields& others) {
  std::string list;
  const auto add = [&list](const std::string& text) {
    list += fmt::format("{}{}", list.empty() ? "" : ", ", text);
  };
  for (const auto& [name, value] : fields) {
    const std::string* other = Find(others, name);
    if (other != nullptr && *other == value) continue;
    add(fmt::format("{} {}", name == "checkpoint" ? "a model with fingerprint" : name, value));
  }
  for (const auto& [name, value] : others) {
    if (Find(fields, name) == nullptr) add(fmt::format("no {}", name));
  }
  return list;
}

// What of the two descriptions differs, by name where they can be read.
std::string DescriptionObjection(const Hello& hello, const Hello& expected) {
  const auto its = FieldsOf(hello.description);
  const auto ours = FieldsOf(expected.description);
  if (its.has_value() && ours.has_value()) {
    const std::string differing = Differing(*its, *ours);
    if (!differing.empty()) {
      return fmt::format(
          "rank {} was started with {}, the controller with {}; give every node the same model and arguments",
          hello.rank, differing, Differing(*ours, *its));
    }
  }
  return fmt::format(
      "rank {} was started for the job \"{}\", the controller for \"{}\"; give every node the same model and "
      "arguments",
      hello.rank, hello.description, expected.description);
}

}  // namespace

std::vector<std::byte> EncodeHello(const Hello& hello) {
  WireWriter writer;
  writer.Put<int32_t>(hello.rank);
  writer.Put<int32_t>(hello.world);
  writer.PutString(hello.build);
  writer.PutString(hello.description);
  return writer.Take();
}

Hello DecodeHello(std::span<const std::byte> bytes) {
  WireReader reader(bytes);
  Hello hello;
  hello.rank = reader.Get<int32_t>();
  hello.world = reader.Get<int32_t>();
  hello.build = reader.GetString();
  hello.description = reader.GetString();
  reader.Done();
  return hello;
}

std::string Objection(const Hello& hello, const Hello& expected) {
  if (hello.build != expected.build) {
    return fmt::format("rank {} runs build \"{}\", the controller \"{}\"; install one build on every node",
                       hello.rank, hello.build, expected.build);
  }
  if (hello.world != expected.world) {
    return fmt::format(
        "rank {} was started for a job of {} ranks, this job has {}; give every node the same layout",
        hello.rank, hello.world, expected.world);
  }
  if (hello.rank < 0 || hello.rank >= expected.world) {
    return fmt::format("rank {} is not one of this job's ranks 0 to {}", hello.rank, expected.world - 1);
  }
  if (hello.description != expected.description) return DescriptionObjection(hello, expected);
  return "";
}

}  // namespace sluice::comm
