#include "client/sse_reader.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::client {
namespace {

const std::string kStream =
    ": a comment\n\ndata: {\"a\": 1}\n\ndata:two\ndata: lines\r\n\r\nevent: error\rdata: x\r\rid: "
    "7\n\ndata\n\n"
    "data:  y\n\ndata: cut off";

std::string Shown(const std::vector<ServerEvent>& events) {
  std::string text;
  for (const ServerEvent& event : events) text += event.name + "[" + event.data + "]";
  return text;
}

TEST(SseReader, GivesTheSameEventsHoweverTheBytesAreCut) {
  const std::string expected = "[{\"a\": 1}][two\nlines]error[x][][ y]";
  for (std::size_t size = 1; size <= kStream.size(); ++size) {
    SseReader reader;
    std::vector<ServerEvent> events;
    for (std::size_t at = 0; at < kStream.size(); at += size) {
      for (ServerEvent& event : reader.Feed(std::string_view(kStream).substr(at, size))) {
        events.push_back(std::move(event));
      }
    }
    EXPECT_EQ(Shown(events), expected) << "in pieces of " << size;
  }
}

}  // namespace
}  // namespace sluice::client
