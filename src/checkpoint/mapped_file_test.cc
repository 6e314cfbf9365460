#include "checkpoint/mapped_file.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kBytes = 1 << 16;

class MappedFileTest : public ::testing::Test {
 protected:
  void SetUp() override { WriteBytes(path_, std::string(kBytes, 'x')); }
  TempDirectory directory_;
  std::filesystem::path path_ = directory_ / "shard";
};

int64_t CountX(const MappedFile& file) {
  return std::count(file.data(), file.data() + kBytes, std::byte{'x'});
}

TEST_F(MappedFileTest, MapsTheWholeFile) {
  const MappedFile file(path_, OpenFile(path_).identity());
  EXPECT_EQ(file.bytes(), kBytes);
  EXPECT_EQ(CountX(file), kBytes);
  file.VerifyIntact();
}

// Of the mapping that begins at `data`.
int64_t ResidentKiB(const std::byte* data) {
  std::ifstream maps("/proc/self/smaps");
  const std::string begin = fmt::format("{:x}-", reinterpret_cast<uintptr_t>(data));
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    found = found || line.starts_with(begin);
    if (found && line.starts_with("Rss:")) return std::stoll(line.substr(4));
  }
  return -1;
}

TEST_F(MappedFileTest, ReleasedPagesAreNotResidentAndReadAsBefore) {
  const MappedFile file(path_, OpenFile(path_).identity());
  EXPECT_EQ(CountX(file), kBytes);
  EXPECT_EQ(ResidentKiB(file.data()), kBytes / 1024);
  file.ReleasePages(1000, kBytes - 2000);  // of the first and of the last page only a part
  EXPECT_EQ(ResidentKiB(file.data()), 0);
  EXPECT_EQ(CountX(file), kBytes);
  file.ReleasePages(kBytes, 0);
  EXPECT_EQ(ResidentKiB(file.data()), kBytes / 1024);
  file.VerifyIntact();
}

// Without the handler the second read would end this process with SIGBUS.
TEST_F(MappedFileTest, ACutFileReadsAsZerosAndIsNamed) {
  const MappedFile file(path_, OpenFile(path_).identity());
  EXPECT_EQ(CountX(file), kBytes);
  std::filesystem::resize_file(path_, 8192);
  EXPECT_EQ(CountX(file), 8192);
  EXPECT_THAT(
      SentenceOf([&] { file.VerifyIntact(); }),
      AllOf(HasSubstr(path_.string()), HasSubstr("had 65536 bytes when it was checked and has 8192 now")));
  // Even when the file has been put back in full, what was read meanwhile is not what it holds.
  std::filesystem::resize_file(path_, kBytes);
  EXPECT_THAT(SentenceOf([&] { file.VerifyIntact(); }), HasSubstr(path_.string()));
}

TEST_F(MappedFileTest, ARewrittenFileIsNamed) {
  const MappedFile file(path_, OpenFile(path_).identity());
  usleep(20'000);  // file times move in steps of a few milliseconds
  WriteBytes(path_, std::string(kBytes, 'y'));
  EXPECT_THAT(SentenceOf([&] { file.VerifyIntact(); }), HasSubstr("was rewritten while in use"));
}

TEST_F(MappedFileTest, AFileThatChangedSinceItsHeaderWasReadIsNotMapped) {
  const FileIdentity before = OpenFile(path_).identity();
  std::filesystem::resize_file(path_, 100);
  EXPECT_THAT(SentenceOf([&] { const MappedFile file(path_, before); }), HasSubstr("has 100 now"));
}

TEST_F(MappedFileTest, ReadAtNamesTheByteWhereACutFileEnds) {
  const OpenFile file(path_);
  std::filesystem::resize_file(path_, 1000);
  std::vector<std::byte> out(500);
  EXPECT_THAT(SentenceOf([&] { file.ReadAt(800, out); }),
              HasSubstr("ends at byte 1000, but 500 bytes from 800"));
}

// A fault elsewhere stays what it was: the end of the process (by the signal, or by a sanitizer's report).
TEST_F(MappedFileTest, OtherBusErrorsAreNotSwallowed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const MappedFile file(path_, OpenFile(path_).identity());
        raise(SIGBUS);
        _exit(0);
      },
      [](int status) { return !WIFEXITED(status) || WEXITSTATUS(status) != 0; }, "");
}

TEST(OpenFileTest, RefusesDirectoriesAndMissingFiles) {
  const TempDirectory directory;
  EXPECT_THAT(SentenceOf([&] { const OpenFile file(directory.path()); }), HasSubstr("is not a regular file"));
  EXPECT_THAT(SentenceOf([&] { const OpenFile file(directory / "none"); }),
              HasSubstr("none cannot be opened"));
}

}  // namespace
}  // namespace sluice::checkpoint
