#include "comm/job_secret.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

constexpr const char* kHowToMake = "make one with `openssl rand -hex 32`";

void FillRandom(std::span<std::byte> bytes) {
  const int filled =
      RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  SLUICE_CHECK(filled == 1, "the system gave no random bytes");
}

std::string ReadSecretFile(const std::string& file) {
  const int opened = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (opened < 0) {
    Fail(ErrorKind::kUsage, "--job-secret-file {} cannot be read: {}", file, std::strerror(errno));
  }
  struct Closed {
    int descriptor;
    ~Closed() { close(descriptor); }
  } const closed{opened};
  struct stat info {};
  SLUICE_CHECK(fstat(opened, &info) == 0, "{}", std::strerror(errno));
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    Fail(ErrorKind::kUsage,
         "--job-secret-file {} has mode {:03o}, so that others than its owner can reach it: use chmod 600",
         file, info.st_mode & 0777U);
  }
  std::string text(kLongestSecret + 2, '\0');  // more than is allowed, with a line end, is seen to be more
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t count = read(opened, text.data() + filled, text.size() - filled);
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      Fail(ErrorKind::kUsage, "--job-secret-file {} cannot be read: {}", file, std::strerror(errno));
    }
    filled += static_cast<size_t>(count);
  }
  text.resize(filled);
  text.resize(text.find_last_not_of(" \t\r\n") + 1);
  return text;
}

}  // namespace

JobSecret::JobSecret(std::string text, const std::string& source) : text_(std::move(text)) {
  if (text_.empty()) Fail(ErrorKind::kUsage, "the job secret of {} is empty; {}", source, kHowToMake);
  if (text_.size() < kShortestSecret || text_.size() > kLongestSecret) {
    Fail(ErrorKind::kUsage, "the job secret of {} has {} characters where {} to {} are wanted; {}", source,
         text_.size(), kShortestSecret, kLongestSecret, kHowToMake);
  }
  if (std::any_of(text_.begin(), text_.end(), [](char c) { return c < ' ' || c > '~'; })) {
    Fail(ErrorKind::kUsage, "the job secret of {} has characters that are not printable ASCII; {}", source,
         kHowToMake);
  }
}

JobSecret JobSecret::Random() {
  std::array<std::byte, 32> bytes;
  FillRandom(bytes);
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return {text, "this job"};
}

std::string JobSecret::EnvironmentEntry() const { return fmt::format("{}={}", kSecretVariable, text_); }

Mac JobSecret::Sign(std::span<const std::byte> message) const {
  Mac mac;
  unsigned size = 0;
  const unsigned char* made = HMAC(EVP_sha256(), text_.data(), static_cast<int>(text_.size()),
                                   reinterpret_cast<const unsigned char*>(message.data()), message.size(),
                                   reinterpret_cast<unsigned char*>(mac.data()), &size);
  SLUICE_CHECK(made != nullptr && size == mac.size(), "HMAC-SHA256 gave {} bytes", size);
  return mac;
}

bool JobSecret::Verifies(std::span<const std::byte> message, const Mac& mac) const {
  const Mac right = Sign(message);
  return CRYPTO_memcmp(right.data(), mac.data(), mac.size()) == 0;
}

std::optional<JobSecret> GivenSecret(const std::string& file) {
  const char* variable = std::getenv(kSecretVariable);
  std::optional<std::string> text;
  std::string source;
  if (variable != nullptr) {
    text = variable;
    source = fmt::format("the environment variable {}", kSecretVariable);
  }
  if (!file.empty()) {
    std::string read = ReadSecretFile(file);
    if (text.has_value() && *text != read) {
      Fail(ErrorKind::kUsage,
           "{} and --job-secret-file {} hold different secrets: give one of them, or the same", source, file);
    }
    text = std::move(read);
    source = fmt::format("--job-secret-file {}", file);
  }
  if (!text.has_value()) return std::nullopt;
  return JobSecret(*std::move(text), source);
}

Nonce MakeNonce() {
  Nonce nonce;
  FillRandom(nonce);
  return nonce;
}

}  // namespace sluice::comm
