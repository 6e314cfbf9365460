#include "serve/answer_writer.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"

namespace sluice::serve {
namespace {

constexpr std::size_t kUnreadInACrowd = 64U << 10U;  // a stream may have when all have too much together

}  // namespace

AnswerWriter::AnswerWriter(Owner& owner, ByteStream& socket, const ServerOptions& options,
                           std::atomic<std::size_t>& unread_bytes)
    : owner_(owner),
      socket_(socket),
      options_(options),
      unread_bytes_(unread_bytes),
      late_(socket.get_executor()),
      silence_(socket.get_executor()) {}

void AnswerWriter::WriteWhole(std::string bytes) {
  SLUICE_CHECK(state_ == State::kIdle, "an answer in another");
  state_ = State::kEnded;
  Queue(std::move(bytes));
}

void AnswerWriter::BeginStream(std::string head, bool chunked, std::string filler) {
  SLUICE_CHECK(state_ == State::kIdle, "a stream in an answer");
  state_ = State::kOpen;
  chunked_ = chunked;
  filler_ = std::move(filler);
  Queue(std::move(head));
}

void AnswerWriter::WritePart(std::string bytes) {
  SLUICE_CHECK(state_ == State::kOpen, "a write outside its stream");
  Queue(chunked_ ? fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes) : std::move(bytes));
}

void AnswerWriter::EndStream() {
  SLUICE_CHECK(state_ == State::kOpen, "the end of a stream that is not open");
  state_ = State::kEnded;
  silence_.cancel();
  Queue(chunked_ ? "0\r\n\r\n" : "");
}

void AnswerWriter::Reset() {
  state_ = State::kIdle;
  chunked_ = false;
  filler_.clear();
}

void AnswerWriter::Abandon() {
  state_ = State::kAbandoned;
  unread_bytes_ -= std::exchange(queued_bytes_, 0);
  late_.Stop();
  silence_.cancel();
}

// What the client has not read counts, not what is being added: one event may be large.
void AnswerWriter::Queue(std::string bytes) {
  const bool crowded = unread_bytes_ > options_.max_unread_total_bytes;
  if (state_ != State::kEnded && queued_bytes_ > (crowded ? kUnreadInACrowd : options_.max_unread_bytes)) {
    return owner_.OnTooMuchUnread(queued_bytes_);
  }
  queued_bytes_ += bytes.size();
  unread_bytes_ += bytes.size();
  queue_.push_back(std::move(bytes));
  if (!writing_) WriteNext();
}

void AnswerWriter::WriteNext() {
  writing_ = true;
  late_.Set(options_.write_timeout, [this, hold = owner_.Hold()] { owner_.OnClientGone(); });
  boost::asio::async_write(socket_, boost::asio::buffer(queue_.front()),
                           [this, hold = owner_.Hold()](const boost::system::error_code& error, std::size_t) {
                             OnWritten(error);
                           });
}

void AnswerWriter::OnWritten(const boost::system::error_code& error) {
  writing_ = false;
  if (state_ == State::kAbandoned) return;
  if (error) return owner_.OnClientGone();
  queued_bytes_ -= queue_.front().size();
  unread_bytes_ -= queue_.front().size();
  queue_.pop_front();
  if (!queue_.empty()) return WriteNext();
  late_.Stop();
  if (state_ == State::kEnded) return owner_.OnAnswerOut();
  AwaitSilence();
}

void AnswerWriter::AwaitSilence() {
  if (filler_.empty()) return;
  silence_.expires_after(options_.keep_alive);
  silence_.async_wait([this, hold = owner_.Hold()](const boost::system::error_code& error) {
    if (error || state_ != State::kOpen || writing_) return;
    WritePart(filler_);
  });
}

}  // namespace sluice::serve
