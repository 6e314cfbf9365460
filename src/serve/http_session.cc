#include "serve/http_session.h"

#include <array>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "serve/alarm.h"
#include "serve/answer_writer.h"
#include "serve/errors.h"
#include "serve/http_messages.h"
#include "serve/http_text.h"
#include "serve/ids.h"

namespace sluice::serve {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using net::ip::tcp;
using Milliseconds = std::chrono::milliseconds;

constexpr std::size_t kMaxPipelinedBytes = 64U << 10U;  // read ahead while an answer is under way
constexpr Milliseconds kLinger{2'000};                  // for a client to stop sending after a refusal

// Everything but Begin, Shut and Post runs on the strand of the socket.
//
//   first byte -> header -> body -> handler ... answer -> first byte of the next request, or close
class Session : public HttpSession, private AnswerWriter::Owner {
 public:
  Session(std::shared_ptr<HttpCore> core, tcp::socket socket)
      : core_(std::move(core)),
        socket_(std::move(socket), core_->tls ? &*core_->tls : nullptr),
        deadline_(socket_.get_executor()),
        later_(socket_.get_executor()),
        buffer_(core_->options.max_header_bytes + 2 * kMaxPipelinedBytes),
        writer_(*this, socket_, core_->options, core_->unread_bytes) {}
  ~Session() override { core_->Remove(this); }

  void Begin(bool refuse) override {
    Post([this, refuse] {
      if (!socket_.secure()) return Opened(refuse);
      Arm(core_->options.header_timeout, &Session::Close);
      socket_.Handshake([self = Self(), refuse](error_code error) {
        if (self->phase_ == Phase::kClosed) return;
        if (error) return self->Close();
        self->deadline_.Stop();
        self->Opened(refuse);
      });
    });
  }

  void Shut(bool at_once) override {
    Post([this, at_once] {
      close_after_ = true;
      if (at_once || phase_ == Phase::kReading) Close();
    });
  }

  void Post(std::function<void()> task) override {
    net::post(socket_.get_executor(), [self = Self(), task = std::move(task)] { task(); });
  }

  void PostAfter(Milliseconds delay, std::function<void()> task) override {
    later_.expires_after(delay);
    later_.async_wait([self = Self(), task = std::move(task)](error_code error) {
      if (!error) task();
    });
  }

  void Respond(HttpResponse response) override {
    if (phase_ == Phase::kClosed) return;
    later_.cancel();
    SLUICE_CHECK(phase_ == Phase::kHandling, "an answer outside its request");
    phase_ = Phase::kAnswering;
    std::string head = HeadOf(response);
    head += fmt::format("Content-Length: {}\r\n\r\n", response.body.size());
    if (!head_only_) head += response.body;
    status_ = response.status;
    writer_.WriteWhole(std::move(head));
  }

  void BeginStream(HttpResponse head, std::string filler) override {
    if (phase_ == Phase::kClosed) return;
    SLUICE_CHECK(phase_ == Phase::kHandling, "a stream outside its request");
    phase_ = Phase::kAnswering;
    status_ = head.status;
    const bool chunked = version_ >= 11;
    if (!chunked) close_after_ = true;  // HTTP/1.0: the end of the connection ends the body
    std::string text = HeadOf(head);
    if (chunked) text += "Transfer-Encoding: chunked\r\n";
    writer_.BeginStream(text + "\r\n", chunked, std::move(filler));
  }

  void Write(std::string bytes) override {
    if (phase_ != Phase::kClosed) writer_.WritePart(std::move(bytes));
  }
  void EndStream() override {
    if (phase_ != Phase::kClosed) writer_.EndStream();
  }

  void OnGone(std::function<void()> callback) override { on_gone_ = std::move(callback); }

 private:
  std::shared_ptr<Session> Self() { return std::static_pointer_cast<Session>(shared_from_this()); }

  enum class Phase { kReading, kHandling, kAnswering, kClosed };

  auto Bind(void (Session::*member)(error_code, std::size_t)) {
    return
        [self = Self(), member](error_code error, std::size_t bytes) { (self.get()->*member)(error, bytes); };
  }

  // Runs `expired` after `time`, unless the deadline is another by then, or none.
  void Arm(Milliseconds time, void (Session::*expired)()) {
    deadline_.Set(time, [self = Self(), expired] { (self.get()->*expired)(); });
  }

  void Opened(bool refuse) {
    if (!refuse) return AwaitRequest(core_->options.header_timeout);
    request_id_ = RandomHex();
    Refuse(ApiError(Refusal::kQueueFull,
                    fmt::format("{} connections are open, which is as many as the server takes",
                                core_->options.max_connections)));
  }

  void AwaitRequest(Milliseconds patience) {
    phase_ = Phase::kReading;
    status_ = 0;
    head_only_ = expired_ = false;
    version_ = 11;
    writer_.Reset();
    request_ = {};
    method_.clear();
    target_.clear();
    request_id_ = RandomHex();
    started_ = NowNs();
    if (buffer_.size() > 0) return ReadHeader();
    Arm(patience, answered_ > 0 ? &Session::Close : &Session::Expire);
    socket_.async_read_some(buffer_.prepare(4096), Bind(&Session::OnFirstBytes));
  }

  void OnFirstBytes(error_code error, std::size_t bytes) {
    if (phase_ == Phase::kClosed) return;
    if (expired_) return TimedOut();
    if (error) return Close();
    started_ = NowNs();  // the time between two requests of a connection is neither's
    buffer_.commit(bytes);
    ReadHeader();
  }

  void ReadHeader() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(core_->options.max_header_bytes));
    parser_->body_limit(core_->options.max_body_bytes);
    Arm(core_->options.header_timeout, &Session::Expire);
    http::async_read_header(socket_, buffer_, *parser_, Bind(&Session::OnHeader));
  }

  void OnHeader(error_code error, std::size_t) {
    if (phase_ == Phase::kClosed) return;
    if (expired_) return TimedOut();
    if (error) return RefuseRead(error);
    const auto& header = parser_->get();
    version_ = header.version();
    head_only_ = header.method() == http::verb::head;
    method_ = std::string(header.method_string());
    target_ = std::string(header.target());
    request_ = RequestOf(header, request_id_);
    request_id_ = request_.request_id;
    if (auto refusal = core_->hooks.gate(request_)) return RefuseWith(std::move(*refusal));
    Arm(core_->options.body_timeout, &Session::Expire);
    if (beast::iequals(header[http::field::expect], "100-continue") && !parser_->is_done()) {
      continue_ = "HTTP/1.1 100 Continue\r\n\r\n";
      net::async_write(socket_, net::buffer(continue_), Bind(&Session::OnContinued));
      return;
    }
    OnContinued({}, 0);
  }

  void OnContinued(error_code error, std::size_t) {
    if (phase_ == Phase::kClosed) return;
    if (expired_) return TimedOut();
    if (error) return Close();
    http::async_read(socket_, buffer_, *parser_, Bind(&Session::OnBody));
  }

  void OnBody(error_code error, std::size_t) {
    if (phase_ == Phase::kClosed) return;
    if (expired_) return TimedOut();
    if (error) return RefuseRead(error);
    deadline_.Stop();
    auto message = parser_->release();
    parser_.reset();
    if (!message.keep_alive()) close_after_ = true;
    request_.body = std::move(message.body());
    phase_ = Phase::kHandling;
    Watch();
    core_->hooks.handle(request_, Self());
    request_.body = {};
  }

  // While the answer is under way a pending read notices that the client has left.
  void Watch() {
    if (buffer_.size() > kMaxPipelinedBytes) return;
    watching_ = true;
    socket_.async_read_some(buffer_.prepare(4096), Bind(&Session::OnWatched));
  }

  void OnWatched(error_code error, std::size_t bytes) {
    watching_ = false;
    if (phase_ == Phase::kClosed) return;
    buffer_.commit(bytes);
    if (answer_out_) return NextRequest();
    if (error) return Gone();
    Watch();
  }

  void Expire() {
    expired_ = true;
    socket_.cancel();
  }

  void TimedOut() {
    Refuse(ApiError(
        Refusal::kRequestTimeout,
        fmt::format("the request did not arrive in time; headers have {} s, the body {} s",
                    InSeconds(core_->options.header_timeout), InSeconds(core_->options.body_timeout))));
  }

  void RefuseRead(error_code error) {
    const std::optional<ApiError> refusal = RefusalOf(error, core_->options);
    if (!refusal.has_value()) return Close();  // the client left, or the connection broke
    Refuse(*refusal);
  }

  // Answers without the handler; then the connection ends, since its place in the byte stream is lost.
  void Refuse(const ApiError& error) { RefuseWith(error.Response()); }

  void RefuseWith(HttpResponse response) {
    deadline_.Stop();
    parser_.reset();
    close_after_ = true;
    linger_ = true;
    phase_ = Phase::kHandling;
    Respond(std::move(response));
  }

  std::string HeadOf(const HttpResponse& response) {
    if (core_->stopping) close_after_ = true;
    const bool allowed = core_->hooks.allows_origin(request_.origin);
    return HeadLines(response, request_id_, allowed ? request_.origin : "", close_after_);
  }

  std::shared_ptr<void> Hold() override { return Self(); }

  void OnAnswerOut() override {
    Log(status_);
    on_gone_ = nullptr;
    answer_out_ = true;
    if (!watching_) return NextRequest();
    socket_.cancel();  // OnWatched goes on
  }

  void OnTooMuchUnread(std::size_t bytes) override {
    spdlog::warn("{} {}: closed, the client left {} bytes unread", method_, request_id_, bytes);
    Gone();
  }

  void OnClientGone() override { Gone(); }

  void NextRequest() {
    answer_out_ = false;
    ++answered_;
    if (!close_after_ && !core_->stopping) return AwaitRequest(core_->options.idle_timeout);
    if (!linger_) return Close();
    // Closing while bytes are still coming would reset the connection and lose the answer on its way.
    socket_.ShutdownSend();
    Arm(kLinger, &Session::Close);
    Discard();
  }

  void Discard() {
    phase_ = Phase::kReading;
    socket_.async_read_some(net::buffer(discarded_), [self = Self()](error_code error, std::size_t) {
      if (error) return self->Close();
      self->Discard();
    });
  }

  void Gone() {
    if (phase_ == Phase::kClosed) return;
    Log(499);
    Close();
    if (const auto callback = std::exchange(on_gone_, nullptr)) callback();
  }

  void Close() {
    phase_ = Phase::kClosed;
    writer_.Abandon();
    deadline_.Stop();
    later_.cancel();
    socket_.Close();
  }

  void Log(int status) const {
    const double seconds = static_cast<double>(NowNs() - started_) * 1e-9;
    HttpLog().info("{} {} {} {:.3f} s {}", method_.empty() ? "-" : method_, Quoted(target_), status, seconds,
                   request_id_);
  }

  const std::shared_ptr<HttpCore> core_;
  ByteStream socket_;
  Alarm deadline_;
  net::steady_timer later_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::array<char, 4096> discarded_{};
  std::string continue_;
  Phase phase_ = Phase::kReading;
  bool expired_ = false;
  bool watching_ = false;
  bool close_after_ = false;
  bool linger_ = false;
  int64_t answered_ = 0;

  HttpRequest request_;
  std::string request_id_;
  std::string method_;
  std::string target_;
  int64_t started_ = 0;
  unsigned version_ = 11;
  bool head_only_ = false;
  int status_ = 0;
  AnswerWriter writer_;
  bool answer_out_ = false;  // all of it is written
  std::function<void()> on_gone_;
};

}  // namespace

std::shared_ptr<HttpSession> MakeHttpSession(std::shared_ptr<HttpCore> core, tcp::socket socket) {
  return std::make_shared<Session>(std::move(core), std::move(socket));
}

}  // namespace sluice::serve
