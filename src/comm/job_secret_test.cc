#include "comm/job_secret.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"

namespace sluice::comm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kLetters = "sixteen letters!";

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string Hex(const Mac& mac) {
  std::string text;
  for (const std::byte byte : mac) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

class GivenSecretTest : public ::testing::Test {
 protected:
  GivenSecretTest() : file_(fmt::format("{}sluice_secret_{}", ::testing::TempDir(), getpid())) {
    unsetenv(kSecretVariable);
  }
  ~GivenSecretTest() override {
    unsetenv(kSecretVariable);
    unlink(file_.c_str());
  }
  void Write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(file_) << text;
    ASSERT_EQ(chmod(file_.c_str(), mode), 0);
  }
  static void Set(const std::string& text) { setenv(kSecretVariable, text.c_str(), 1); }
  static std::string Refusal(const std::string& file) {
    try {
      GivenSecret(file);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "";
  }
  static std::string EntryOf(const std::string& file) { return GivenSecret(file)->EnvironmentEntry(); }

  std::string file_;
};

// The value is that of Python's hmac module.
TEST(JobSecretTest, SignsAsHmacSha256Does) {
  const JobSecret secret(kLetters, "the test");
  EXPECT_EQ(Hex(secret.Sign(Bytes("what do ya want for nothing?"))),
            "15bbe3a610a7ce4a13d8b6f72a7504120f44a7e11a98bf245ccd7fb1dbfcbb6a");
}

TEST(JobSecretTest, VerifiesItsOwnSignatureOnly) {
  const JobSecret secret = JobSecret::Random();
  const Mac mac = secret.Sign(Bytes("message"));
  EXPECT_TRUE(secret.Verifies(Bytes("message"), mac));
  EXPECT_FALSE(secret.Verifies(Bytes("massage"), mac));
  EXPECT_FALSE(JobSecret::Random().Verifies(Bytes("message"), mac));
  for (size_t bit = 0; bit < mac.size() * 8; ++bit) {
    Mac flipped = mac;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(secret.Verifies(Bytes("message"), flipped));
  }
}

TEST(JobSecretTest, RandomSecretsAndNoncesDiffer) {
  EXPECT_NE(JobSecret::Random().EnvironmentEntry(), JobSecret::Random().EnvironmentEntry());
  EXPECT_NE(MakeNonce(), MakeNonce());
  EXPECT_EQ(JobSecret::Random().EnvironmentEntry().size(), std::string("SLUICE_JOB_SECRET=").size() + 64);
}

TEST_F(GivenSecretTest, ComesFromTheVariableTheFileOrBoth) {
  EXPECT_EQ(GivenSecret(""), std::nullopt);
  Set(kLetters);
  EXPECT_EQ(EntryOf(""), "SLUICE_JOB_SECRET=sixteen letters!");
  Write(std::string(kLetters) + "\n");
  EXPECT_EQ(EntryOf(file_), "SLUICE_JOB_SECRET=sixteen letters!");
  unsetenv(kSecretVariable);
  EXPECT_EQ(EntryOf(file_), "SLUICE_JOB_SECRET=sixteen letters!");
  Write(std::string(kLongestSecret, 'x') + "\n");
  EXPECT_EQ(EntryOf(file_).size(), kLongestSecret + std::string("SLUICE_JOB_SECRET=").size());
}

TEST_F(GivenSecretTest, SaysWhatIsWrongAndNeverTheSecret) {
  Set("fifteen letters");
  EXPECT_EQ(
      Refusal(""),
      "the job secret of the environment variable SLUICE_JOB_SECRET has 15 characters where 16 to 4096 are "
      "wanted; make one with `openssl rand -hex 32`");
  Set("");
  EXPECT_EQ(Refusal(""),
            "the job secret of the environment variable SLUICE_JOB_SECRET is empty; make one with `openssl "
            "rand -hex "
            "32`");
  Set("sixteen letters\x07");
  EXPECT_THAT(Refusal(""), AllOf(HasSubstr("not printable ASCII"), Not(HasSubstr("sixteen"))));
  Set("another secret of enough letters");
  Write(kLetters);
  EXPECT_THAT(Refusal(file_), AllOf(HasSubstr("hold different secrets"), HasSubstr(file_),
                                    Not(HasSubstr("sixteen")), Not(HasSubstr("another"))));
  unsetenv(kSecretVariable);
  Write(" \n\n");
  EXPECT_THAT(Refusal(file_), HasSubstr("the job secret of --job-secret-file " + file_ + " is empty"));
  Write(std::string(kLongestSecret + 1, 'x') + "\n");
  EXPECT_THAT(Refusal(file_), HasSubstr("where 16 to 4096 are wanted"));
  EXPECT_THAT(Refusal("/nowhere/secret"),
              HasSubstr("--job-secret-file /nowhere/secret cannot be read: No such file"));
  EXPECT_THAT(Refusal(::testing::TempDir()), HasSubstr("--job-secret-file"));
}

TEST_F(GivenSecretTest, AFileOthersCanReachIsRefused) {
  for (const mode_t mode : {0640, 0604, 0620, 0602}) {
    Write(kLetters, mode);
    EXPECT_EQ(Refusal(file_),
              fmt::format("--job-secret-file {} has mode {:o}, so that others than its owner can reach "
                          "it: use chmod 600",
                          file_, mode));
  }
  Write(kLetters, 0400);
  EXPECT_EQ(Refusal(file_), "");
}

}  // namespace
}  // namespace sluice::comm
