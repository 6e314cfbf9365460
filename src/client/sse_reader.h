#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::client {

// One server-sent event. `data` has the lines of its data fields, joined by line feeds.
struct ServerEvent {
  std::string name;  // of the field `event`, mostly empty
  std::string data;
};

// Takes a stream of server-sent events apart, however its bytes are cut (WHATWG HTML, 9.2.6). Comments, ids
// and retry times are passed over. An event that the stream's end cuts off is none, as the standard has it.
class SseReader {
 public:
  // The events that these bytes complete, in order.
  std::vector<ServerEvent> Feed(std::string_view bytes);

 private:
  void TakeLine(std::string_view line, std::vector<ServerEvent>& events);

  std::string line_;
  bool after_return_ = false;  // the last byte was CR: an LF that follows belongs to it
  bool has_data_ = false;
  ServerEvent event_;
};

}  // namespace sluice::client
