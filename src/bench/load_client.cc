#include "bench/load_client.h"

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::bench {
namespace {

int64_t Ns(Clock::time_point time) {
  return std::chrono::duration_cast<Duration>(time.time_since_epoch()).count();
}

// The sentence of an error body in OpenAI's shape, else the body's first line.
std::string Sentence(std::string_view body) {
  const Json parsed = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object() && parsed.contains("error")) {
    const Json& error = parsed["error"];
    if (error.is_object() && error.contains("message") && error["message"].is_string())
      return error["message"];
    return error.dump();
  }
  return std::string(body.substr(0, std::min<size_t>(body.find('\n'), 300)));
}

}  // namespace

std::string CompletionBody(const LoadRequest& request, const AskOptions& options) {
  Json body = {{"model", options.model},
               {"max_tokens", request.output_tokens},
               {"temperature", options.temperature},
               {"top_p", options.top_p},
               {"ignore_eos", options.ignore_eos},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  std::visit([&body](const auto& prompt) { body["prompt"] = prompt; }, request.prompt);
  body.update(options.extra);
  return body.dump();
}

AnswerReader::AnswerReader(const LoadRequest& request, int64_t start_ns) {
  record_.prompt_tokens = request.prompt_tokens;
  record_.output_tokens = request.output_tokens;
  record_.start_ns = start_ns;
  record_.end_ns = start_ns;
}

void AnswerReader::Take(std::string_view data, int64_t arrival_ns) {
  record_.end_ns = arrival_ns;
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  const Json chunk = Json::parse(data, nullptr, /*allow_exceptions=*/false);
  if (!chunk.is_object()) {
    record_.error = fmt::format("the server sent an event that is no JSON object: {}", data.substr(0, 100));
  } else if (chunk.contains("error")) {
    record_.error = Sentence(data);
  } else {
    TakeChunk(chunk, arrival_ns);
  }
}

void AnswerReader::TakeChunk(const Json& chunk, int64_t arrival_ns) {
  if (const auto choices = chunk.find("choices"); choices != chunk.end() && !choices->empty()) {
    const Json& choice = choices->front();
    if (const auto text = choice.find("text"); text != choice.end() && text->is_string() && *text != "") {
      record_.chunk_ns.push_back(arrival_ns);
      record_.text += text->get<std::string>();
    }
  }
  const auto usage = chunk.find("usage");
  if (usage == chunk.end() || !usage->is_object()) return;
  record_.output_tokens = usage->value("completion_tokens", record_.output_tokens);
  record_.prompt_tokens = usage->value("prompt_tokens", record_.prompt_tokens);
  const auto details = usage->find("prompt_tokens_details");
  if (details != usage->end() && details->is_object()) {
    record_.cached_tokens = details->value("cached_tokens", int64_t{0});
  }
}

RequestRecord AnswerReader::Finish() {
  if (record_.ok() && !done_) record_.error = "the stream ended without [DONE]";
  return std::move(record_);
}

RequestRecord SendCompletion(client::HttpClient& http, const LoadRequest& request, std::string_view body) {
  AnswerReader reader(request, NowNs());
  std::string error;
  bool unreachable = false;
  try {
    const client::HttpAnswer answer =
        http.PostForEvents("/v1/completions", body, [&reader](const client::TimedEvent& event) {
          reader.Take(event.event.data, Ns(event.arrival));
          return true;
        });
    if (!answer.ok()) {
      error = fmt::format("status {}: {}", answer.status, Sentence(answer.body));
    } else if (!answer.body.empty()) {
      error = "the answer is no stream of events";
    }
  } catch (const Error& failure) {
    error = failure.what();
    unreachable = failure.kind() == ErrorKind::kNetwork;
  }
  RequestRecord record = reader.Finish();
  if (error.empty()) return record;
  record.error = error;
  record.unreachable = unreachable;
  return record;
}

}  // namespace sluice::bench
