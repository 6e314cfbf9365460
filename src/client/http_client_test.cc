#include "client/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

#include "client/scripted_server.h"

namespace sluice::client {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

ClientOptions OptionsFor(const ScriptedServer& server) {
  ClientOptions options;
  options.server = server.url();
  options.silence_timeout = std::chrono::seconds(20);
  return options;
}

std::string SentenceOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNetwork);
    return error.what();
  }
  return "no error";
}

TEST(HttpClient, SendsWhatItIsGivenOverOneConnection) {
  std::vector<ReceivedRequest> seen;
  ScriptedServer server([&seen](const ReceivedRequest& request) {
    seen.push_back(request);
    return ScriptedAnswer{
        {JsonAnswer("{\"n\": " + std::to_string(seen.size()) + "}", seen.size() == 2 ? 503 : 200)}};
  });
  ClientOptions options = OptionsFor(server);
  options.server.path = "/prefix";
  options.api_key = "secret";
  HttpClient client(options);
  const HttpAnswer first = client.Post("/v1/completions", "{\"prompt\": \"\u00e9\"}");
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.body, "{\"n\": 1}");
  EXPECT_EQ(first.headers.at("content-type"), "application/json");
  const HttpAnswer second = client.Get("/v1/models");
  EXPECT_EQ(second.status, 503);
  EXPECT_FALSE(second.ok());
  EXPECT_EQ(second.body, "{\"n\": 2}");
  ASSERT_EQ(seen.size(), 2);
  EXPECT_THAT(seen[0].head, testing::StartsWith("POST /prefix/v1/completions HTTP/1.1\r\n"));
  EXPECT_THAT(seen[0].head, HasSubstr("Authorization: Bearer secret\r\n"));
  EXPECT_THAT(seen[0].head, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(seen[0].head, HasSubstr("Host: " + server.url().authority() + "\r\n"));
  EXPECT_EQ(seen[0].body, "{\"prompt\": \"\u00e9\"}");
  EXPECT_THAT(seen[1].head, testing::StartsWith("GET /prefix/v1/models HTTP/1.1\r\n"));
  EXPECT_EQ(seen[1].connection, 0) << "the connection was not kept";
}

// A server may close a connection it has kept; the request goes out again, on a new one.
TEST(HttpClient, ConnectsAgainWhenTheKeptConnectionIsGone) {
  std::vector<int> connections;
  ScriptedServer server([&connections](const ReceivedRequest& request) {
    connections.push_back(request.connection);
    return ScriptedAnswer{{JsonAnswer("{}")}, ScriptedAnswer::kClose};
  });
  HttpClient client(OptionsFor(server));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Post("/", "{}").status, 200);
  EXPECT_EQ(connections, (std::vector<int>{0, 1, 2}));
}

TEST(HttpClient, DoesNotRepeatARequestOnAFreshConnection) {
  int requests = 0;
  ScriptedServer server([&requests](const ReceivedRequest&) {
    ++requests;
    return ScriptedAnswer{{}, ScriptedAnswer::kClose};
  });
  HttpClient client(OptionsFor(server));
  EXPECT_THAT(SentenceOf([&] { client.Post("/", "{}"); }),
              HasSubstr("does not answer (waiting for its answer)"));
  EXPECT_EQ(requests, 1);
}

TEST(HttpClient, JoinsChunks) {
  ScriptedServer server([](const ReceivedRequest&) {
    return ScriptedAnswer{{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chun", "ked\r\n\r\n5\r\nab",
                           "cde\r\n1\r\nf\r\n0\r", "\n\r\n"}};
  });
  HttpClient client(OptionsFor(server));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(client.Get("/").body, "abcdef");
}

const std::string kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

TEST(HttpClient, GivesEventsWhenTheyArrive) {
  ScriptedServer server([](const ReceivedRequest&) {
    return ScriptedAnswer{
        {kStreamHead + "9\r\ndata: 1\n\n\r\n", "a\r\ndata: 22\n\n\r\n", "9\r\ndata: 3\n\n\r\n0\r\n\r\n"}};
  });
  HttpClient client(OptionsFor(server));
  for (int i = 0; i < 2; ++i) {
    const Clock::time_point begin = Clock::now();
    std::vector<TimedEvent> events;
    const HttpAnswer answer = client.PostForEvents("/", "{}", [&events](const TimedEvent& event) {
      events.push_back(event);
      return true;
    });
    const Clock::time_point end = Clock::now();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "");
    ASSERT_EQ(events.size(), 3);
    EXPECT_EQ(events[1].event.data, "22");
    EXPECT_GE(client.sent_at(), begin);
    EXPECT_GE(events[0].arrival, client.sent_at());
    // The server pauses for 30 ms before the second and the third.
    EXPECT_GE(events[1].arrival - begin, milliseconds(25));
    EXPECT_GE(events[2].arrival - begin, milliseconds(55));
    EXPECT_LE(events[2].arrival, end);
  }
}

TEST(HttpClient, LeavesAStreamWhenToldTo) {
  std::set<int> connections;
  ScriptedServer server([&connections](const ReceivedRequest& request) {
    connections.insert(request.connection);
    return ScriptedAnswer{{kStreamHead + "9\r\ndata: 1\n\n\r\n"}, ScriptedAnswer::kStaySilent};
  });
  HttpClient client(OptionsFor(server));
  int events = 0;
  const auto leave = [&events](const TimedEvent&) { return ++events < 0; };
  const auto fail = [](const TimedEvent&) -> bool { throw std::runtime_error("no"); };
  client.PostForEvents("/", "{}", leave);
  EXPECT_THROW(client.PostForEvents("/", "{}", fail), std::runtime_error);
  client.PostForEvents("/", "{}", leave);
  EXPECT_EQ(events, 2);
  EXPECT_EQ(connections.size(), 3) << "a half-read stream was taken for an answer's beginning";
}

// An error that comes instead of a stream is an answer with a body.
TEST(HttpClient, GivesTheBodyOfARefusalInsteadOfAStream) {
  ScriptedServer server(
      [](const ReceivedRequest&) { return ScriptedAnswer{{JsonAnswer("{\"error\": 1}", 400)}}; });
  HttpClient client(OptionsFor(server));
  const HttpAnswer answer = client.PostForEvents("/", "{}", [](const TimedEvent&) { return true; });
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.body, "{\"error\": 1}");
}

TEST(HttpClient, EndsAWaitForASilentServer) {
  ScriptedServer server([](const ReceivedRequest& request) {
    if (request.head.starts_with("GET")) return ScriptedAnswer{{}, ScriptedAnswer::kStaySilent};
    return ScriptedAnswer{{kStreamHead + "9\r\ndata: 1\n\n\r\n"}, ScriptedAnswer::kStaySilent};
  });
  ClientOptions options = OptionsFor(server);
  options.silence_timeout = milliseconds(100);
  HttpClient client(options);
  const Clock::time_point begin = Clock::now();
  EXPECT_THAT(SentenceOf([&] { client.Get("/"); }), HasSubstr("is silent"));
  int events = 0;
  const auto count = [&events](const TimedEvent&) { return ++events > 0; };
  EXPECT_THAT(SentenceOf([&] { client.PostForEvents("/", "{}", count); }), HasSubstr("is silent"));
  EXPECT_EQ(events, 1);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10));
}

TEST(HttpClient, SaysWhatHinders) {
  Url nowhere;
  {
    ScriptedServer gone([](const ReceivedRequest&) { return ScriptedAnswer{}; });
    nowhere = gone.url();
  }
  ClientOptions options;
  options.server = nowhere;
  HttpClient refused(options);
  EXPECT_THAT(SentenceOf([&] { refused.Get("/"); }),
              testing::AllOf(HasSubstr(nowhere.ToString()), HasSubstr("connecting"), HasSubstr("refused")));

  ScriptedServer broken([](const ReceivedRequest&) {
    return ScriptedAnswer{{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}, ScriptedAnswer::kClose};
  });
  HttpClient cut(OptionsFor(broken));
  EXPECT_THAT(SentenceOf([&] { cut.Get("/"); }), HasSubstr("in the middle of an answer"));

  ScriptedServer other([](const ReceivedRequest&) { return ScriptedAnswer{{"220 smtp ready\r\n\r\n"}}; });
  HttpClient confused(OptionsFor(other));
  EXPECT_THAT(SentenceOf([&] { confused.Get("/"); }), HasSubstr("does not answer"));
}

TEST(HttpClient, CanBeCancelledFromAnotherThread) {
  std::atomic<bool> asked{false};
  ScriptedServer server([&asked](const ReceivedRequest&) {
    asked = true;
    return ScriptedAnswer{{}, ScriptedAnswer::kStaySilent};
  });
  HttpClient client(OptionsFor(server));
  std::thread other([&] {
    while (!asked) std::this_thread::sleep_for(milliseconds(1));
    client.Cancel();
  });
  EXPECT_THAT(SentenceOf([&] { client.Get("/"); }), HasSubstr("cancelled"));
  other.join();
  EXPECT_THAT(SentenceOf([&] { client.Get("/"); }), HasSubstr("cancelled"));
}

}  // namespace
}  // namespace sluice::client
