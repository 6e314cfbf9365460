#include "checkpoint/json_file.h"

#include <fmt/format.h>

#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "checkpoint/mapped_file.h"

namespace sluice::checkpoint {
namespace {

constexpr int kDeepest = 16;

// Watches the parser's events for what nlohmann-json itself lets pass.
class StrictEvents {
 public:
  bool operator()(int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kDeepest)
      throw Error(ErrorKind::kModelFiles, fmt::format("is nested deeper than {} levels", kDeepest));
    if (event == Event::object_start) {
      keys_.emplace_back();
    } else if (event == Event::object_end) {
      keys_.pop_back();
    } else if (event == Event::key && !keys_.back().insert(parsed.get_ref<const std::string&>()).second) {
      throw Error(ErrorKind::kModelFiles, fmt::format("has the key \"{}\" twice in one object",
                                                      Shown(parsed.get_ref<const std::string&>())));
    }
    return true;
  }

 private:
  std::vector<std::unordered_set<std::string>> keys_;
};

}  // namespace

std::optional<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& where,
                                              Defects& defects) {
  try {
    StrictEvents events;
    nlohmann::json value = nlohmann::json::parse(
        text, [&events](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
          return events(depth, event, parsed);
        });
    if (value.is_object()) return value;
    defects.Add("{} is JSON of type {}; an object is expected.", where, value.type_name());
  } catch (const nlohmann::json::parse_error& error) {
    defects.Add("{} is not valid JSON: the text breaks at byte {}.", where, error.byte);
  } catch (const nlohmann::json::exception&) {
    defects.Add("{} holds a number that does not fit 64 bits.", where);
  } catch (const Error& error) {
    defects.Add("{} {}; this is refused.", where, error.what());
  }
  return std::nullopt;
}

std::optional<std::string> ReadText(const std::filesystem::path& file, Defects& defects) {
  try {
    const OpenFile opened(file);
    if (opened.bytes() > kMaxJsonBytes) {
      defects.Add("{} has {} bytes; a JSON file of at most {} bytes is expected.", file.string(),
                  opened.bytes(), kMaxJsonBytes);
      return std::nullopt;
    }
    std::string text(static_cast<size_t>(opened.bytes()), '\0');
    opened.ReadAt(0, std::as_writable_bytes(std::span(text)));
    return text;
  } catch (const Error& error) {
    defects.Add("{}", error.what());
    return std::nullopt;
  }
}

std::optional<nlohmann::json> ReadJsonObject(const std::filesystem::path& file, Defects& defects) {
  const std::optional<std::string> text = ReadText(file, defects);
  if (!text) return std::nullopt;
  return ParseJsonObject(*text, file.string(), defects);
}

std::string ShownJson(const nlohmann::json& value) {
  constexpr size_t kLongest = 80;
  const std::string text =
      value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

}  // namespace sluice::checkpoint
