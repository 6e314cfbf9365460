#include "serve/answer_writer.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>

namespace sluice::serve {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using Tcp = asio::ip::tcp;

// A writer on one end of a connection, whose other end the test reads or does not read. Single-threaded: what
// it waits for happens while it waits.
class AnswerWriterTest : public testing::Test, public AnswerWriter::Owner {
 protected:
  AnswerWriterTest() {
    Tcp::acceptor acceptor(io_, {asio::ip::address_v4::loopback(), 0});
    client_.connect(acceptor.local_endpoint());
    socket_ = std::make_unique<ByteStream>(acceptor.accept(), nullptr);
    options_.write_timeout = std::chrono::minutes(5);
    options_.keep_alive = std::chrono::minutes(5);
  }
  ~AnswerWriterTest() override {
    if (writer_) writer_->Abandon();
    socket_->Close();
    io_.restart();
    io_.run();
    EXPECT_EQ(holds_.use_count(), 1) << "somebody still keeps the connection";
  }
  // With options_ as they are then.
  AnswerWriter& Writer() {
    if (!writer_) writer_ = std::make_unique<AnswerWriter>(*this, *socket_, options_, unread_bytes_);
    return *writer_;
  }
  void RunUntil(const std::function<bool()>& over) {
    while (!over()) {
      io_.restart();
      ASSERT_GT(io_.run_one(), 0U) << "nothing is under way any more";
    }
  }
  // What the client gets next, so many bytes.
  std::string Read(std::size_t bytes) {
    std::string text(bytes, '\0');
    bool whole = false;
    asio::async_read(client_, asio::buffer(text), [&](const boost::system::error_code& error, std::size_t) {
      EXPECT_FALSE(error) << error.message();
      whole = true;
    });
    RunUntil([&] { return whole; });
    return text;
  }
  // Whether nothing is there to be read.
  bool NothingCame() {
    client_.non_blocking(true);
    std::array<char, 1> byte{};
    boost::system::error_code error;
    client_.receive(asio::buffer(byte), 0, error);
    return error == asio::error::would_block;
  }

  std::shared_ptr<void> Hold() override { return holds_; }
  void OnAnswerOut() override { ++out_; }
  void OnClientGone() override { ++gone_; }
  void OnTooMuchUnread(std::size_t bytes) override { too_much_.push_back(bytes); }

  asio::io_context io_;
  Tcp::socket client_{io_};
  std::unique_ptr<ByteStream> socket_;
  ServerOptions options_;
  std::atomic<std::size_t> unread_bytes_{0};
  std::shared_ptr<void> holds_ = std::make_shared<int>();
  int out_ = 0;
  int gone_ = 0;
  std::vector<std::size_t> too_much_;
  std::unique_ptr<AnswerWriter> writer_;
};

TEST_F(AnswerWriterTest, AWholeAnswerIsOutAndAnotherMayCome) {
  for (const std::string bytes : {"first answer", "second"}) {
    const int before = out_;
    Writer().WriteWhole(bytes);
    EXPECT_EQ(Read(bytes.size()), bytes);
    RunUntil([&] { return out_ > before || gone_ > 0; });
    Writer().Reset();
  }
  EXPECT_EQ(out_, 2);
  EXPECT_EQ(gone_, 0);
  EXPECT_EQ(unread_bytes_, 0U);
}

TEST_F(AnswerWriterTest, PartsOfAStreamAreChunksWhereTheProtocolHasThem) {
  for (const bool chunked : {true, false}) {
    const int before = out_;
    Writer().BeginStream("head|", chunked, "");
    Writer().WritePart("hello");
    Writer().WritePart("sixteen letters.");
    Writer().EndStream();
    const std::string right =
        chunked ? "head|5\r\nhello\r\n10\r\nsixteen letters.\r\n0\r\n\r\n" : "head|hellosixteen letters.";
    EXPECT_EQ(Read(right.size()), right);
    RunUntil([&] { return out_ > before || gone_ > 0; });
    Writer().Reset();
  }
  EXPECT_EQ(out_, 2);
  EXPECT_TRUE(NothingCame());
}

TEST_F(AnswerWriterTest, SilenceOfAStreamIsFilled) {
  options_.keep_alive = milliseconds(2);
  Writer().BeginStream("head|", /*chunked=*/true, ": still here\n\n");
  const std::string filler = "e\r\n: still here\n\n\r\n";
  EXPECT_EQ(Read(5 + 2 * filler.size()), "head|" + filler + filler);
}

TEST_F(AnswerWriterTest, SilenceIsNotFilledWhereNothingIsToFillIt) {
  options_.keep_alive = milliseconds(0);
  Writer().BeginStream("head|", /*chunked=*/true, "");
  EXPECT_EQ(Read(5), "head|");
  io_.restart();
  io_.run();  // until nothing is left to be done
  EXPECT_TRUE(NothingCame());
}

// What the client has left unread counts, and not the part that is added: one may be larger than the limit.
TEST_F(AnswerWriterTest, WhoLeavesTooMuchUnreadIsNamed) {
  options_.max_unread_bytes = 1U << 20U;
  Writer().BeginStream("head|", /*chunked=*/false, "");
  const std::string part(16U << 20U, 'x');  // more than a connection's own buffers take
  Writer().WritePart(part);
  EXPECT_TRUE(too_much_.empty());
  Writer().WritePart("one more");
  ASSERT_EQ(too_much_.size(), 1U);
  EXPECT_EQ(too_much_[0], part.size() + 5);
  EXPECT_EQ(unread_bytes_, too_much_[0]);  // the one more is not among them
  Writer().EndStream();                    // the end may be written all the same
  EXPECT_EQ(too_much_.size(), 1U);
  Writer().Abandon();
  EXPECT_EQ(unread_bytes_, 0U);
}

TEST_F(AnswerWriterTest, InACrowdAStreamMayHaveLess) {
  options_.max_unread_total_bytes = 8U << 20U;
  Writer().BeginStream("head|", /*chunked=*/false, "");
  Writer().WritePart(std::string(100'000, 'x'));
  Writer().WritePart("taken");
  EXPECT_TRUE(too_much_.empty());
  const std::size_t others = 8U << 20U;
  unread_bytes_ += others;
  Writer().WritePart("not taken");
  ASSERT_EQ(too_much_.size(), 1U);
  EXPECT_EQ(too_much_[0], 100'010U);
  unread_bytes_ -= others;
}

TEST_F(AnswerWriterTest, AClientThatHasLeftIsNoticed) {
  Writer().BeginStream("head|", /*chunked=*/false, "");
  client_.set_option(asio::socket_base::linger(true, 0));  // as a process that ends: the connection is reset
  client_.close();
  while (gone_ == 0) {
    Writer().WritePart("to nobody");
    RunUntil([&, left = unread_bytes_.load()] { return gone_ > 0 || unread_bytes_ < left; });
  }
  EXPECT_EQ(gone_, 1);
  EXPECT_EQ(out_, 0);
}

TEST_F(AnswerWriterTest, AClientThatTakesNothingIsGoneInTime) {
  options_.write_timeout = milliseconds(5);
  Writer().WriteWhole(std::string(64U << 20U, 'x'));
  RunUntil([&] { return gone_ > 0; });
  EXPECT_EQ(out_, 0);
}

// What was under way when the connection was closed ends without a word.
TEST_F(AnswerWriterTest, NothingIsSaidOfWhatWasAbandoned) {
  Writer().WriteWhole("an answer");
  Writer().Abandon();
  socket_->Close();
  io_.restart();
  io_.run();
  EXPECT_EQ(out_ + gone_, 0);
  EXPECT_EQ(unread_bytes_, 0U);
}

}  // namespace
}  // namespace sluice::serve
