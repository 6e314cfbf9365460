#include "comm/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

#include "comm/socket_channel.h"
#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

std::string UnixPath(const std::string& name) {
  return fmt::format("{}sluice_{}_{}.sock", ::testing::TempDir(), name, getpid());
}

enum class Kind { kQueue, kTcp, kUnix };
using Pair = std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>>;

Pair Connect(Kind kind) {
  if (kind == Kind::kQueue) return MakeChannelPair();
  Listener listener(ParseAddress(kind == Kind::kTcp ? "127.0.0.1:0" : "unix:" + UnixPath("channel")));
  auto there = TryConnect(listener.address(), "the controller", seconds(5));
  auto here = listener.Accept("rank 3", seconds(5));
  EXPECT_NE(there, nullptr);
  EXPECT_NE(here, nullptr);
  return {std::move(here), std::move(there)};
}

Frame Numbered(uint32_t number, size_t bytes) {
  return {1, number, number, std::vector<std::byte>(bytes, static_cast<std::byte>(number))};
}

class ChannelTest : public ::testing::TestWithParam<Kind> {};

TEST_P(ChannelTest, FramesArriveInOrderBothWays) {
  auto [here, there] = Connect(GetParam());
  std::thread writer([&there = there] {
    for (uint32_t i = 0; i < 200; ++i) there->Send(Numbered(i, i * 37 % 5000));
  });
  for (uint32_t i = 0; i < 200; ++i) {
    here->Send(Numbered(i, 3));
    EXPECT_EQ(here->Receive(seconds(5)), Numbered(i, i * 37 % 5000));
  }
  writer.join();
  for (uint32_t i = 0; i < 200; ++i) EXPECT_EQ(there->Receive(seconds(5)), Numbered(i, 3));
}

TEST_P(ChannelTest, LargeFramesAndManySendersKeepFramesWhole) {
  auto [here, there] = Connect(GetParam());
  std::vector<std::thread> writers;
  for (uint32_t writer = 0; writer < 3; ++writer) {
    writers.emplace_back([&there = there, writer] {
      for (int i = 0; i < 3; ++i) there->Send(Numbered(writer, 3'000'000 + writer));
    });
  }
  for (int i = 0; i < 9; ++i) {
    const auto frame = here->Receive(seconds(10));
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(*frame, Numbered(frame->pass, 3'000'000 + frame->pass));
  }
  for (auto& writer : writers) writer.join();
}

TEST_P(ChannelTest, NothingWithinTheTimeOut) {
  auto [here, there] = Connect(GetParam());
  EXPECT_EQ(here->Receive(Duration(0)), std::nullopt);
  const double waited =
      SecondsOf([&here = here] { EXPECT_EQ(here->Receive(milliseconds(100)), std::nullopt); });
  EXPECT_GE(waited, 0.099);
  EXPECT_LT(waited, 1.0);
}

TEST_P(ChannelTest, AClosedPeerIsLostAfterItsLastFrame) {
  auto [here, there] = Connect(GetParam());
  there->Send(Numbered(1, 10));
  there.reset();
  EXPECT_EQ(here->Receive(seconds(5)), Numbered(1, 10));
  EXPECT_THAT(LostSentence([&here = here] { here->Receive(seconds(5)); }), HasSubstr("closed"));
  LostSentence([&here = here] {
    // The first send may still be taken by the system.
    for (int i = 0; i < 100; ++i) here->Send(Numbered(2, 100000));
  });
}

TEST_P(ChannelTest, CloseEndsAReceiveUnderWay) {
  auto [here, there] = Connect(GetParam());
  std::thread closer([&here = here] {
    std::this_thread::sleep_for(milliseconds(50));
    here->Close();
    here->Close();
  });
  const double waited = SecondsOf([&here = here] { LostSentence([&] { here->Receive(seconds(20)); }); });
  closer.join();
  EXPECT_LT(waited, 2.0);
  LostSentence([&here = here] { here->Send(Numbered(1, 1)); });
  LostSentence([&there = there] { there->Receive(seconds(5)); });
}

INSTANTIATE_TEST_SUITE_P(Kinds, ChannelTest, ::testing::Values(Kind::kQueue, Kind::kTcp, Kind::kUnix),
                         [](const auto& kind) {
                           return kind.param == Kind::kQueue ? "Queue"
                                  : kind.param == Kind::kTcp ? "Tcp"
                                                             : "Unix";
                         });

class RawSocketTest : public ::testing::Test {
 protected:
  RawSocketTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    raw_ = ends[0];
    channel_ = MakeSocketChannel(ends[1], "rank 3");
  }
  ~RawSocketTest() override { CloseRaw(); }
  void Write(std::span<const std::byte> bytes) const {
    ASSERT_EQ(write(raw_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  void CloseRaw() {
    if (raw_ >= 0) close(raw_);
    raw_ = -1;
  }
  int raw_ = -1;
  std::unique_ptr<Channel> channel_;
};

TEST_F(RawSocketTest, AFrameMayArriveByteByByte) {
  const Frame frame = Numbered(5, 40);
  for (const std::byte byte : EncodeFrame(frame)) {
    EXPECT_EQ(channel_->Receive(Duration(0)), std::nullopt);
    Write(std::span(&byte, 1));
  }
  EXPECT_EQ(channel_->Receive(Duration(0)), frame);
}

TEST_F(RawSocketTest, NothingIsReceivedAfterABadFrame) {
  auto bytes = EncodeFrame(Numbered(5, 40));
  bytes.back() ^= std::byte{1};
  Write(bytes);
  Write(EncodeFrame(Numbered(6, 40)));
  EXPECT_THAT(
      LostSentence([&] { channel_->Receive(seconds(5)); }),
      HasSubstr("rank 3 broke the control protocol: a control frame of type 1 with 40 bytes has checksum"));
  EXPECT_THAT(LostSentence([&] { channel_->Receive(seconds(5)); }), HasSubstr("has checksum"));
  // The peer can be told why.
  channel_->Send(Numbered(7, 0));
  std::vector<std::byte> told(kFrameHeaderBytes);
  EXPECT_EQ(read(raw_, told.data(), told.size()), static_cast<ssize_t>(kFrameHeaderBytes));
  EXPECT_EQ(DecodeFrame(told), Numbered(7, 0));
  channel_->Close();
  EXPECT_EQ(read(raw_, told.data(), 1), 0);
}

TEST_F(RawSocketTest, ALongFrameIsRefusedByItsHeaderAlone) {
  channel_->LimitReceived(1000);
  Write(EncodeFrame(Numbered(5, 1000)));
  EXPECT_EQ(channel_->Receive(seconds(5)), Numbered(5, 1000));
  const auto bytes = EncodeFrame(Numbered(6, 1001));
  Write(std::span(bytes).first(kFrameHeaderBytes));
  EXPECT_EQ(
      LostSentence([&] { channel_->Receive(seconds(5)); }),
      "rank 3 broke the control protocol: a control frame of type 1 announces 1001 bytes, the limit is 1000");
}

TEST_F(RawSocketTest, AnEndInMidFrameIsNamed) {
  const auto bytes = EncodeFrame(Numbered(5, 40));
  Write(std::span(bytes).first(30));
  CloseRaw();
  EXPECT_THAT(LostSentence([&] { channel_->Receive(seconds(5)); }),
              HasSubstr("rank 3 closed the control connection in the middle of a frame"));
}

TEST(AddressTest, ReadsItsThreeForms) {
  EXPECT_EQ(ParseAddress("node0:5000"), (Address{"", "node0", 5000}));
  EXPECT_EQ(ParseAddress("[::1]:80"), (Address{"", "::1", 80}));
  EXPECT_EQ(ParseAddress("unix:/run/job.sock"), (Address{"/run/job.sock", "", 0}));
  for (const char* text : {"node0:5000", "[::1]:80", "unix:/run/job.sock"}) {
    EXPECT_EQ(ParseAddress(text).ToString(), text);
  }
}

TEST(AddressTest, SaysWhatIsWrong) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      ParseAddress(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal("node0"), HasSubstr("\"node0\" has no port"));
  EXPECT_THAT(refusal("node0:"), HasSubstr("\"\" is not a port"));
  EXPECT_THAT(refusal("node0:65536"), HasSubstr("\"65536\" is not a port between 0 and 65535"));
  EXPECT_THAT(refusal("node0:12x"), HasSubstr("\"12x\" is not a port"));
  EXPECT_THAT(refusal(":80"), HasSubstr("has no host"));
  EXPECT_THAT(refusal("::1:80"), HasSubstr("stands in brackets"));
  EXPECT_THAT(refusal("unix:job.sock"), HasSubstr("must be absolute"));
  EXPECT_THAT(refusal("unix:/" + std::string(107, 'x')),
              HasSubstr("has 108 characters, the system allows 107"));
}

TEST(ListenerTest, ATakenAddressIsRefusedAndAStaleSocketReplaced) {
  const Address path = ParseAddress("unix:" + UnixPath("stale"));
  const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  ASSERT_EQ(bind(stale, reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
  close(stale);
  {
    const Listener first(path);
    EXPECT_THROW(Listener second(path), Error);
  }
  EXPECT_NE(access(path.path.c_str(), F_OK), 0);
  const Listener tcp(ParseAddress("127.0.0.1:0"));
  EXPECT_NE(tcp.address().port, 0);
  try {
    const Listener second(tcp.address());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNetwork);
    EXPECT_THAT(error.what(), HasSubstr("cannot listen on 127.0.0.1:"));
  }
}

}  // namespace
}  // namespace sluice::comm
