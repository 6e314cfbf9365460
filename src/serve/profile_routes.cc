#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "serve/errors.h"
#include "serve/field_reader.h"
#include "serve/json_body.h"
#include "serve/prepare.h"
#include "serve/request_limits.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {

constexpr std::size_t kLongestPrefix = 64;
constexpr std::size_t kMostActivities = 16;

// The profile that a body asks for, and a sentence for each wish that does not come true.
struct ProfileWish {
  engine::ProfileRequest request;
  Json notes = Json::array();
};

void CheckPrefix(const std::string& prefix) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
  };
  if (!prefix.empty() && prefix.size() <= kLongestPrefix &&
      std::all_of(prefix.begin(), prefix.end(), plain)) {
    return;
  }
  throw ApiError(Refusal::kInvalidValue,
                 fmt::format("profile_prefix is part of a file's name: use 1 to {} letters, digits, - and _",
                             kLongestPrefix),
                 "profile_prefix");
}

void ReadActivities(FieldReader& fields, Json& notes) {
  const auto activities = fields.Array("activities");
  if (!activities) return;
  if (activities->size() > kMostActivities) {
    throw ApiError(
        Refusal::kInvalidValue,
        fmt::format("activities has {} names: send at most {}", activities->size(), kMostActivities),
        "activities");
  }
  bool of_host = false;
  for (const simdjson::dom::element each : *activities) {
    if (!each.is_string()) fields.WrongType("activities", "an array of strings", each);
    const std::string name = Quoted(TextOf(each));
    if (name == "CPU") {
      of_host = true;
    } else {
      notes.push_back(
          fmt::format("activities: {} is not recorded; spans are the host's time, which on a GPU is that of "
                      "enqueueing ops "
                      "and of waiting for them",
                      name));
    }
  }
  if (!of_host) notes.push_back("activities: CPU, the host's time, is recorded all the same");
}

ProfileWish WishOf(const HttpRequest& http) {
  ProfileWish wish;
  if (http.body.empty()) return wish;
  const JsonBody body = ReadBody(http);
  FieldReader fields(body.object());
  engine::ProfileRequest& request = wish.request;
  request.output_dir = fields.String("output_dir").value_or("");
  request.start_step = fields.Integer("start_step").value_or(-1);
  request.num_steps = fields.Integer("num_steps").value_or(0);
  request.merge = fields.Bool("merge_profiles").value_or(false);
  if (const auto prefix = fields.String("profile_prefix")) {
    CheckPrefix(*prefix);
    request.prefix = *prefix;
  }
  ReadActivities(fields, wish.notes);
  const auto note = [&](bool wanted, const char* sentence) {
    if (wanted) wish.notes.push_back(sentence);
  };
  note(fields.Bool("profile_by_stage").value_or(false),
       "profile_by_stage: a step may hold rows of prompts and of answers at once, so one trace has both");
  note(fields.Array("profile_stages").has_value(),
       "profile_stages: a step may hold rows of prompts and of answers at once, so one trace has both");
  note(fields.Bool("with_stack").value_or(false),
       "with_stack: events carry the op, its step, pass and layer; there are no stacks of source lines");
  note(fields.Bool("record_shapes").value_or(false),
       "record_shapes: events carry the rows of an op; its other sizes are those of the model");
  for (const std::string& name : fields.Unread()) {
    if (wish.notes.size() > kMaxIgnoredFieldsListed) break;
    wish.notes.push_back(fmt::format("{}: this route has no such field", Quoted(name)));
  }
  return wish;
}

// What a sink of the engine does with its answer: it goes to whoever asked, if he is still there.
engine::TraceSink AnswerTo(const std::shared_ptr<Exchange>& exchange, Json notes) {
  return [weak = std::weak_ptr(exchange), notes = std::move(notes)](const engine::TraceFiles& files) {
    const auto alive = weak.lock();
    if (!alive) return;
    alive->Post([weak, notes, files] {
      const auto open = weak.lock();
      if (!open) return;
      if (!files.success) {
        return open->Respond(ApiError(Refusal::kInvalidValue, files.message, "output_dir").Response());
      }
      HttpResponse response;
      response.body = ToText(Json{{"success", true},
                                  {"message", files.message},
                                  {"notes", notes},
                                  {"files", files.files},
                                  {"events", files.events},
                                  {"lost", files.lost}});
      open->Respond(std::move(response));
    });
  };
}

}  // namespace

void HandleStartProfile(Service& service, const HttpRequest& http,
                        const std::shared_ptr<Exchange>& exchange) {
  ProfileWish wish = WishOf(http);
  service.engine.StartProfile(wish.request, AnswerTo(exchange, std::move(wish.notes)));
}

void HandleStopProfile(Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  service.engine.StopProfile(AnswerTo(exchange, Json::array()));
}

void HandleDumpTrace(Service& service, const HttpRequest& http, const std::shared_ptr<Exchange>& exchange) {
  std::string output_dir;
  Json notes = Json::array();
  if (!http.body.empty()) {
    const JsonBody body = ReadBody(http);
    FieldReader fields(body.object());
    output_dir = fields.String("output_dir").value_or("");
    for (const std::string& name : fields.Unread()) {
      if (notes.size() > kMaxIgnoredFieldsListed) break;
      notes.push_back(fmt::format("{}: this route has no such field", Quoted(name)));
    }
  }
  service.engine.DumpTrace(output_dir, AnswerTo(exchange, std::move(notes)));
}

}  // namespace sluice::serve
