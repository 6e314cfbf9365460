#pragma once

#include <cstdint>

#include "serve/api_request.h"
#include "serve/field_reader.h"

namespace sluice::serve {

// The bodies of the two endpoints. Everything is checked that can be checked without the tokenizer; the first
// fault found is thrown as an ApiError that names the field. `vocab_size` bounds token ids.
CompletionRequest ParseCompletion(simdjson::dom::object body, int64_t vocab_size);
ChatRequest ParseChat(simdjson::dom::object body, int64_t vocab_size, const ChatDialect& dialect,
                      bool needs_model = true);
GenerateRequest ParseGenerate(simdjson::dom::object body, int64_t vocab_size);

// One prompt, or a list of them; null and an absent field are no prompts. Texts and lists of ids.
std::vector<Prompt> ParsePrompts(FieldReader& fields, std::string_view name, int64_t vocab_size);
// Token ids in [0, vocab_size); `path` names the list.
std::vector<int32_t> ParseIds(simdjson::dom::array ids, const std::string& path, int64_t vocab_size);

// A token id at `path`; kInvalidValue outside [0, vocab_size).
int32_t ParseTokenId(simdjson::dom::element value, const std::string& path, int64_t vocab_size);

// How tokens are chosen and what ends an answer, n among it; /generate has these fields in sampling_params.
void ParseSampling(FieldReader& fields, int64_t vocab_size, ApiRequest& request);

// The part of ParseSampling that changes logits: min_p, penalties, biases, min_tokens, the answer's format.
void ParseChoice(FieldReader& fields, int64_t vocab_size, ApiRequest& request);

// What no other server's answer depends on: names, priority, deadline, cache salt, progress and timings.
// After `stream` has been read.
void ParseExtras(FieldReader& fields, ApiRequest& request);

// The fields of both endpoints. `chat` also reads max_completion_tokens, which then wins.
void ParseCommon(FieldReader& fields, bool chat, int64_t vocab_size, ApiRequest& request,
                 bool needs_model = true);

}  // namespace sluice::serve
