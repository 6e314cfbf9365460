#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bench/json.h"
#include "bench/serving_metrics.h"
#include "bench/workload.h"
#include "client/http_client.h"

namespace sluice::bench {

// How every request of a run asks.
struct AskOptions {
  std::string model;
  bool ignore_eos = true;
  double temperature = 0.0;
  double top_p = 1.0;
  Json extra = Json::object();  // its members go into the body, in place of what is there
};

// The body of a streamed POST /v1/completions; its usage is asked for.
std::string CompletionBody(const LoadRequest& request, const AskOptions& options);

// What a streamed completion says, event by event, as a record. Its numbers of tokens are the server's, and
// those asked for from a server that sends no usage.
class AnswerReader {
 public:
  AnswerReader(const LoadRequest& request, int64_t start_ns);
  // The data of an event and when it had arrived.
  void Take(std::string_view data, int64_t arrival_ns);
  // At the end of the stream.
  RequestRecord Finish();

 private:
  void TakeChunk(const Json& chunk, int64_t arrival_ns);

  RequestRecord record_;
  bool done_ = false;
};

// Sends the request and takes its answer. Whatever hinders it is in the record.
RequestRecord SendCompletion(client::HttpClient& http, const LoadRequest& request, std::string_view body);

}  // namespace sluice::bench
