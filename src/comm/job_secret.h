#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace sluice::comm {

using Nonce = std::array<std::byte, 32>;
using Mac = std::array<std::byte, 32>;

// The environment variable a secret is read from, and by which rank processes get theirs.
inline constexpr const char* kSecretVariable = "SLUICE_JOB_SECRET";
inline constexpr size_t kShortestSecret = 16;
inline constexpr size_t kLongestSecret = 4096;

// What the processes of one job know and nobody else: by it they prove to one another that they belong to it,
// without saying it. A secret never appears in a sentence, a log, a command line or an answer.
class JobSecret {
 public:
  // `source` says in sentences where the text came from. Throws Error(kUsage) unless it has between
  // kShortestSecret and kLongestSecret characters, all of them printable ASCII.
  JobSecret(std::string text, const std::string& source);
  // 256 random bits, for a job whose processes are all started by one.
  static JobSecret Random();

  // "SLUICE_JOB_SECRET=...", for the environment of a rank process.
  std::string EnvironmentEntry() const;
  // HMAC-SHA256 of the message under this secret.
  Mac Sign(std::span<const std::byte> message) const;
  // Whether `mac` is this message's; takes the same time wherever it is wrong.
  bool Verifies(std::span<const std::byte> message, const Mac& mac) const;

 private:
  std::string text_;
};

// The secret the user has given: in the environment variable, in `file` (empty: no file), or the same in
// both; nothing when in neither. White space at the end of the file is not part of it. Throws Error(kUsage)
// when the two differ, when one is not a secret, and when the file cannot be read or others than its owner
// may read or write it: what others can read is no secret, and what they can write is theirs.
std::optional<JobSecret> GivenSecret(const std::string& file);

// Random bytes that have not been used before.
Nonce MakeNonce();

}  // namespace sluice::comm
