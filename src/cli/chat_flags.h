#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "checkpoint/checkpoint.h"
#include "serve/server.h"

namespace sluice::cli {

// What a chat is written and read with, and the page for people.
struct ChatFlags {
  bool no_webui = false;
  std::string chat_template = "auto";  // or the name of a text::ChatStyle
};

void AddChatFlags(CLI::App& app, ChatFlags& flags);

// Throws Error(kUsage) for a chat template that is not known.
void CheckChatFlags(const ChatFlags& flags);

// Sets the options of the server that belong to these flags and to --tool-call-parser and --reasoning-parser.
// Logs how prompts are written and why, which parsers are used, and whatever differs between the texts of
// prompts here and those that the checkpoint in `directory` has: in its chat template, in encoding/.
void ApplyChatFlags(const ChatFlags& flags, const std::string& tool_call_parser,
                    const std::string& reasoning_parser, const checkpoint::Checkpoint& checkpoint,
                    const std::filesystem::path& directory, serve::ServerOptions& options);

}  // namespace sluice::cli
