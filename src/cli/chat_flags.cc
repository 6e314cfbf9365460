#include "cli/chat_flags.h"

#include <spdlog/spdlog.h>

#include "text/encoding_folder.h"
#include "text/parser_names.h"

namespace sluice::cli {

void AddChatFlags(CLI::App& app, ChatFlags& flags) {
  app.add_flag("--no-webui", flags.no_webui, "No page for people at /")->group("Model and server");
}

void ApplyChatFlags(const ChatFlags& flags, const std::string& tool_call_parser,
                    const std::string& reasoning_parser, const std::string& architecture,
                    const std::filesystem::path& checkpoint, serve::ServerOptions& options) {
  const text::ParserNames parsers = text::ParsersOf(architecture, tool_call_parser, reasoning_parser);
  options.parse_tool_calls = parsers.tool_calls != "none";
  options.parse_reasoning = parsers.reasoning != "none";
  options.web_page = !flags.no_webui;
  spdlog::info("answers of {} are read with tool-call parser {} and reasoning parser {}", architecture,
               parsers.tool_calls, parsers.reasoning);
  for (const std::string& difference : text::CompareEncodingFolder(checkpoint)) {
    spdlog::warn("{}", difference);
  }
}

}  // namespace sluice::cli
