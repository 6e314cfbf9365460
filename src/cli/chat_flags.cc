#include "cli/chat_flags.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <optional>

#include "base/error.h"
#include "text/chat_style.h"
#include "text/encoding_folder.h"
#include "text/parser_names.h"

namespace sluice::cli {

namespace {

// The template that a checkpoint has: a file, or a member of tokenizer_config.json.
std::optional<std::string> ChatTemplateOf(const checkpoint::Checkpoint& checkpoint) {
  if (auto text = checkpoint.TextFile("chat_template.jinja")) return text;
  const auto config = checkpoint.TextFile("tokenizer_config.json");
  return config ? text::TemplateOfTokenizerConfig(*config) : std::nullopt;
}

text::ChatStyle StyleOf(const ChatFlags& flags, const checkpoint::Checkpoint& checkpoint) {
  if (const auto named = text::ChatStyleNamed(flags.chat_template)) {
    spdlog::info("prompts are written as {}'s: --chat-template says so", flags.chat_template);
    return *named;
  }
  const text::FoundChatStyle found =
      text::ChatStyleOf(checkpoint.config().architecture, ChatTemplateOf(checkpoint),
                        checkpoint.TextFile("config.json").value_or(""));
  if (found.certain) {
    spdlog::info("prompts are written as {}'s: {}", text::NameOf(found.style), found.why);
  } else {
    spdlog::warn("prompts are written as {}'s: {}; --chat-template names another", text::NameOf(found.style),
                 found.why);
  }
  return found.style;
}

}  // namespace

void AddChatFlags(CLI::App& app, ChatFlags& flags) {
  app.add_flag("--no-webui", flags.no_webui, "No page for people at /")->group("Model and server");
  app.add_option("--chat-template", flags.chat_template,
                 "How chats become prompts: auto (as the checkpoint says), deepseek-v3.2, glm-5, glm-5.1 or "
                 "glm-5.2")
      ->group("Model and server");
}

void CheckChatFlags(const ChatFlags& flags) {
  if (flags.chat_template == "auto" || text::ChatStyleNamed(flags.chat_template)) return;
  Fail(ErrorKind::kUsage, "--chat-template {}: use auto, deepseek-v3.2, glm-5, glm-5.1 or glm-5.2",
       flags.chat_template);
}

void ApplyChatFlags(const ChatFlags& flags, const std::string& tool_call_parser,
                    const std::string& reasoning_parser, const checkpoint::Checkpoint& checkpoint,
                    const std::filesystem::path& directory, serve::ServerOptions& options) {
  const std::string& architecture = checkpoint.config().architecture;
  const text::ParserNames parsers = text::ParsersOf(architecture, tool_call_parser, reasoning_parser);
  options.chat.style = StyleOf(flags, checkpoint);
  options.chat.calls =
      parsers.tool_calls == "glm47" ? text::CallMarkup::kGlm47 : text::CallMarkup::kDeepSeekV32;
  options.parse_tool_calls = parsers.tool_calls != "none";
  options.parse_reasoning = parsers.reasoning != "none";
  options.web_page = !flags.no_webui;
  spdlog::info("answers of {} are read with tool-call parser {} and reasoning parser {}", architecture,
               parsers.tool_calls, parsers.reasoning);
  if (text::IsGlm(options.chat.style)) return;
  for (const std::string& difference : text::CompareEncodingFolder(directory)) {
    spdlog::warn("{}", difference);
  }
}

}  // namespace sluice::cli
