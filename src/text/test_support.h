#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sluice::text {

// A file in GoogleTest's temporary folder that goes with the object.
class ScratchFile {
 public:
  explicit ScratchFile(std::string_view content) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    static int count = 0;
    path_ = std::filesystem::path(::testing::TempDir()) /
            fmt::format("sluice_{}_{}_{}.json", test->test_suite_name(), test->name(), count++);
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~ScratchFile() { std::filesystem::remove(path_); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string Sha256(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

// The sentence of the Error that `act` throws, which must be of kind `kind`; empty when it throws none.
template <typename Act>
std::string Refusal(ErrorKind kind, Act&& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    return error.what();
  }
  return {};
}

// Reads a whole file; fails the test when it is absent.
inline std::string ReadWhole(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path << " cannot be read";
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::filesystem::path GoldenFolder() {
  return std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "golden" / "tokenizer";
}

// Conversations and answers with what a widely used copy of DeepSeek's own encoder makes of them. Not part of
// this tree: SLUICE_ENCODING_CASES names the file, else it lies in shared/ beside the tree.
inline std::filesystem::path EncodingCases() {
  if (const char* named = std::getenv("SLUICE_ENCODING_CASES")) return named;
  return std::filesystem::path(SLUICE_SOURCE_DIR) / ".." / "shared" / "data" / "dsv32-encoding" /
         "cases.json";
}

}  // namespace sluice::text
