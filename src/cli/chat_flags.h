#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "serve/server.h"

namespace sluice::cli {

// What a chat is written and read with, and the page for people.
struct ChatFlags {
  bool no_webui = false;
};

void AddChatFlags(CLI::App& app, ChatFlags& flags);

// Sets the options of the server that belong to these flags and to --tool-call-parser and --reasoning-parser.
// Logs which parsers are used and whatever differs between the texts of prompts here and those in the
// checkpoint's own encoding/ folder.
void ApplyChatFlags(const ChatFlags& flags, const std::string& tool_call_parser,
                    const std::string& reasoning_parser, const std::string& architecture,
                    const std::filesystem::path& checkpoint, serve::ServerOptions& options);

}  // namespace sluice::cli
