#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "serve/answer_text.h"
#include "serve/api_request.h"
#include "serve/errors.h"
#include "serve/exchange.h"
#include "serve/generation_list.h"
#include "serve/json.h"
#include "serve/request_watch.h"
#include "serve/token_text.h"
#include "text/tokenizer.h"

namespace sluice::serve {

// Some tokens of one answer and the text that became certain with them.
struct Delta {
  AnswerText::Piece text;
  std::vector<int32_t> tokens;
  std::vector<engine::TokenLogprobs> logprobs;  // one per token, when they were asked for

  void Append(Delta&& more);
};

// One prompt and its answer.
struct Choice {
  Choice(engine::Request job, AnswerText answer_text)
      : request(std::move(job)), text(std::move(answer_text)) {}

  int64_t index = 0;
  int64_t copy = 0;  // among the answers to one prompt; the first computes the prompt for the others
  engine::Request request;
  std::string prompt_text;  // for echo
  AnswerText text;
  std::vector<engine::TokenLogprobs> prompt_logprobs;
  TextOffset offset;  // of the tokens listed so far
  engine::RequestId id = 0;
  RequestWatch watch;
  bool submitted = false;
  bool opened = false;  // stream: the first chunk is out
  bool finished = false;
  std::string finish_reason;                                            // stop or length
  std::optional<std::pair<int32_t, engine::TokenLogprobs>> stop_token;  // the token that ended the answer
  Json matched_stop = nullptr;  // the stop string or the token that ended the answer, end tokens among them
  Json stop_reason = nullptr;   // a stop string or a stop_token_ids member that ended the answer
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
  int64_t calls = 0;             // tool calls streamed
  int64_t prompt_done = 0;       // tokens of the prompt that are in the cache
  int64_t cached_tokens = 0;     // and were there before
  int64_t truncated_tokens = 0;  // left out at the prompt's beginning, as was asked
  Delta answer;                  // all of it; left empty in a stream with an envelope
};

// How an endpoint writes its answers. Constant: the state is in the Choice.
class AnswerShape {
 public:
  virtual ~AnswerShape() = default;
  virtual const char* id_prefix() const = 0;
  virtual const char* object(bool stream) const = 0;
  // The first chunk's member of `choices`, or null when the endpoint has nothing to say first.
  virtual Json Opening(Choice& choice) const = 0;
  virtual Json Chunk(Choice& choice, const Delta& delta) const = 0;
  // The members of the chunks after that: tool calls, of which each needs several.
  virtual std::vector<Json> Calls(Choice&, const Delta&) const { return {}; }
  virtual Json Closing(Choice& choice) const = 0;
  virtual Json Whole(Choice& choice) const = 0;
  // The whole of an event or an answer of an endpoint without an envelope (GenerationPlan::bare); `delta` is
  // what is new, choice.answer everything so far.
  virtual Json Bare(const Choice&, const Delta& /*delta*/) const { return nullptr; }
  // Members of the envelope beside the usual ones, in the first chunk and in a whole answer.
  virtual Json Envelope(const std::vector<Choice>& choices) const = 0;
};

// What a generation needs to know beside its choices.
struct GenerationPlan {
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool logprobs = false;
  int32_t top_logprobs = 0;                // alternatives of a token of the answer
  std::optional<int32_t> prompt_logprobs;  // and of the prompt, when they were asked for
  bool chat = false;
  bool bare = false;   // events and answers are AnswerShape::Bare
  bool batch = false;  // bare: the answer is a list
  bool return_token_ids = false;
  bool include_stop = false;
  bool progress = false;
  bool timings = false;
  bool timings_each = false;
  bool report_truncation = false;
  std::string request_id;   // the client's own name for it, or the transport's; what /abort_request takes
  std::string id;           // of the answer; empty: the shape's prefix and request_id
  int64_t max_prompts = 0;  // under way at once, in the whole server
  std::string model;
  std::string fingerprint;
  const text::Tokenizer* tokenizer = nullptr;
  Watchers watchers;
  HeaderList headers;  // of the answer, x-ignored-fields for one
};

// One POST on its way: submits the choices, and turns the engine's events into the answer. Lives in a
// GenerationList from Start to the end; everything runs in tasks of its exchange.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(engine::Engine& engine, GenerationList& list, std::shared_ptr<Exchange> exchange,
             std::unique_ptr<AnswerShape> shape, GenerationPlan plan, std::vector<Choice> choices);

  // Throws what Engine::Submit throws, with nothing left running.
  void Start();
  // Ends it from any thread: an error answer, or an error event and [DONE] when the stream has begun.
  void Fail(ApiError error);
  // Whether `name` is the client's name of this request or the id of its answer.
  bool IsNamed(const std::string& name) const { return name == plan_.request_id || name == id_; }

 private:
  void Submit(std::size_t index);
  // The other answers to a prompt that choice `index` has just computed: they find it in the cache.
  void SubmitCopies(std::size_t index);
  void OnEvent(std::size_t index, engine::Event event);
  // Takes the event's tokens; the delta is what the client may see of them.
  Delta Take(Choice& choice, engine::Event& event);
  void FinishFrom(Choice& choice, const engine::Event& event, Delta& delta);
  void Stream(Choice& choice, const Delta& delta);
  void Open(Choice& choice);
  void StreamProgress(Choice& choice);
  Json Finished(Choice& choice, Json member) const;
  Json WholeAnswer();
  Json Timings() const;
  Json PromptLogprobs(const Choice& choice) const;
  // Tells the choice's watch that it has ended.
  void Note(Choice& choice, const std::string& reason, bool aborted);
  // In the log: the answer's id and, of several, which.
  std::string NameOf(const Choice& choice) const;
  void EndIfAllFinished();
  void End(const ApiError& error);
  void Leave();
  // `reason` is for the log.
  void AbortRest(const std::string& reason);
  Json Chunk(Json choices) const;
  Json Usage() const;

  engine::Engine& engine_;
  GenerationList& list_;
  std::shared_ptr<Exchange> exchange_;
  std::unique_ptr<AnswerShape> shape_;
  GenerationPlan plan_;
  std::vector<Choice> choices_;
  std::string id_;
  int64_t created_;
  bool over_ = false;
};

}  // namespace sluice::serve
