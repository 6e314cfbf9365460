#pragma once

#include <string_view>

namespace sluice::text {

// Everything fixed that DeepSeek-V3.2's encoding writes and its answers have. The only place of these texts:
// encoding_folder.h compares them with those of a checkpoint.

inline constexpr std::string_view kBeginOfSentence = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEndOfSentence = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUserMark = "<｜User｜>";
inline constexpr std::string_view kAssistantMark = "<｜Assistant｜>";
inline constexpr std::string_view kThinkOpen = "<think>";
inline constexpr std::string_view kThinkClose = "</think>";
inline constexpr std::string_view kDsml = "｜DSML｜";

// Markup of tool calls: "<" or "</", kDsml, a name.
inline constexpr std::string_view kCallsOpen = "<｜DSML｜function_calls>";
inline constexpr std::string_view kCallsClose = "</｜DSML｜function_calls>";
inline constexpr std::string_view kInvokeOpen = "<｜DSML｜invoke";
inline constexpr std::string_view kInvokeClose = "</｜DSML｜invoke>";
inline constexpr std::string_view kParameterOpen = "<｜DSML｜parameter";
inline constexpr std::string_view kParameterClose = "</｜DSML｜parameter>";

// Of tool results.
inline constexpr std::string_view kResultsOpen = "<function_results>";
inline constexpr std::string_view kResultsClose = "</function_results>";
inline constexpr std::string_view kResultOpen = "<result>";
inline constexpr std::string_view kResultClose = "</result>";

inline constexpr std::string_view kDeveloperIntro = "# The user's message is: ";

// What stands before a prompt's tools. "{tool_schemas}" is the place of the functions, one JSON a line.
extern const std::string_view kDeepSeekV32ToolsText;

// What asks for an answer by a schema. "{schema}" is its place.
extern const std::string_view kDeepSeekV32ResponseFormatText;

}  // namespace sluice::text
