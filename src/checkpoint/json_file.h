#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/defects.h"

namespace sluice::checkpoint {

// Largest JSON text that is parsed: safetensors' own limit for a header.
inline constexpr int64_t kMaxJsonBytes = 100'000'000;

// Parses a JSON object, strictly: valid UTF-8, no key twice in one object, at most 16 levels deep, nothing
// after it. `where` begins the sentence of a defect. Returns nullopt after adding exactly one defect.
std::optional<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& where,
                                              Defects& defects);

// A whole regular file of at most kMaxJsonBytes; nullopt after adding one defect.
std::optional<std::string> ReadText(const std::filesystem::path& file, Defects& defects);

// ParseJsonObject of such a file.
std::optional<nlohmann::json> ReadJsonObject(const std::filesystem::path& file, Defects& defects);

// A JSON value as shown in a sentence: compact, at most 80 characters.
std::string ShownJson(const nlohmann::json& value);

}  // namespace sluice::checkpoint
