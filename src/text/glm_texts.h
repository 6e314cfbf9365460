#pragma once

#include <array>
#include <string_view>

namespace sluice::text {

// Everything fixed that the chat templates of GLM-5, 5.1 and 5.2 write and their answers have. All marks are
// added tokens of the model; <think> and </think> are in deepseek_v32_texts.h, for both families have them.

inline constexpr std::string_view kGlmPrefix = "[gMASK]<sop>";
inline constexpr std::string_view kGlmSystem = "<|system|>";
inline constexpr std::string_view kGlmUser = "<|user|>";
inline constexpr std::string_view kGlmAssistant = "<|assistant|>";
inline constexpr std::string_view kGlmObservation = "<|observation|>";
inline constexpr std::string_view kGlmResponseOpen = "<tool_response>";
inline constexpr std::string_view kGlmResponseClose = "</tool_response>";

// Markup of tool calls.
inline constexpr std::string_view kGlmCallOpen = "<tool_call>";
inline constexpr std::string_view kGlmCallClose = "</tool_call>";
inline constexpr std::string_view kGlmKeyOpen = "<arg_key>";
inline constexpr std::string_view kGlmKeyClose = "</arg_key>";
inline constexpr std::string_view kGlmValueOpen = "<arg_value>";
inline constexpr std::string_view kGlmValueClose = "</arg_value>";
inline constexpr std::array kGlmCallMarks{kGlmCallOpen, kGlmCallClose, kGlmKeyOpen,
                                          kGlmKeyClose, kGlmValueOpen, kGlmValueClose};

// What stands before and behind a prompt's tools, one JSON and a line break each.
extern const std::string_view kGlmToolsBefore;
extern const std::string_view kGlmToolsBehind;

// GLM-5.2's system line; "High" or "Max" follows.
inline constexpr std::string_view kGlmEffort = "Reasoning Effort: ";

}  // namespace sluice::text
