#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>

#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> DefectsOfFile(const std::string& bytes) {
  const TempDirectory directory;
  WriteBytes(directory / "x.safetensors", bytes);
  Defects defects;
  ReadSafetensorsHeader(directory / "x.safetensors", defects);
  return defects.sentences();
}

// A two-tensor file: a is [2, 3] BF16 (12 bytes), b is [2] F32 (8 bytes).
const char* const kGood = R"({"__metadata__":{"format":"pt"},)"
                          R"("a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
                          R"("b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}  )";

TEST(Safetensors, ReadsAGoodHeader) {
  const TempDirectory directory;
  WriteBytes(directory / "x.safetensors", Safetensors(kGood, std::string(20, 'x')));
  Defects defects;
  const SafetensorsFile file = ReadSafetensorsHeader(directory / "x.safetensors", defects);
  EXPECT_THAT(defects.sentences(), IsEmpty());
  ASSERT_EQ(file.header.tensors.size(), 2U);
  const TensorEntry& b = file.header.tensors.at("b");
  EXPECT_EQ(b.dtype, DType::kF32);
  EXPECT_EQ(b.shape, std::vector<int64_t>{2});
  EXPECT_EQ(b.begin, static_cast<int64_t>(8 + std::string(kGood).size() + 12));
  EXPECT_EQ(b.bytes, 8);
}

TEST(Safetensors, AcceptsScalarsAndEmptyTensors) {
  EXPECT_THAT(DefectsOfFile(Safetensors(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                                        R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]}})",
                                        "1234")),
              IsEmpty());
}

// What was broken, the header, the data bytes, and what the one sentence must say.
struct Malformed {
  const char* what;
  std::string header;
  size_t data_bytes;
  const char* phrase;
};

std::string One(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

const Malformed kMalformed[] = {
    {"not JSON", "{{", 0, "not valid JSON: the text breaks at byte 2"},
    {"not an object", "[]", 0, "JSON of type array; an object is expected"},
    {"text after the object", "{} x", 0, "not valid JSON"},
    {"invalid UTF-8", "{\"\xff\":1}", 0, "not valid JSON"},
    {"a name twice",
     R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
     0, "the key \"a\" twice"},
    {"a key of an entry twice", R"({"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0,
     "the key \"dtype\" twice"},
    {"deep nesting", "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}", 0,
     "nested deeper than 16 levels"},
    {"a number beyond double", One("\"F32\"", "[1e999]", "[0,4]"), 4, "does not fit 64 bits"},
    {"an empty name", R"({"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "is not a tensor name"},
    {"a control character in a name", R"({"a\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
     R"("a\u001b[2J" is not a tensor name)"},
    {"a very long name",
     R"({")" + std::string(300, 'n') + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
     "is not a tensor name"},
    {"an entry that is no object", R"({"a":7})", 0, "tensor a is 7; an object"},
    {"no shape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "an object with \"dtype\""},
    {"an extra key", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4,
     "an object with \"dtype\""},
    {"an unknown dtype", One("\"F8_E5M2\"", "[4]", "[0,4]"), 4,
     "has dtype \"F8_E5M2\"; F32, BF16, F16 and F8_E4M3"},
    {"a dtype that is no string", One("32", "[1]", "[0,4]"), 4, "has dtype 32"},
    {"a negative extent", One("\"F32\"", "[-1]", "[0,4]"), 4, "has shape [-1]"},
    {"a fractional extent", One("\"F32\"", "[1.0]", "[0,4]"), 4, "has shape [1.0]"},
    {"an extent of 2^63", One("\"F32\"", "[9223372036854775808]", "[0,4]"), 4,
     "has shape [9223372036854775808]"},
    {"nine dimensions", One("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "at most 8"},
    {"a product that wraps to 4", One("\"F32\"", "[4294967296,4294967296,1]", "[0,4]"), 4,
     "product does not fit 64 bits"},
    {"a product that wraps to 0", One("\"F32\"", "[4611686018427387904,2]", "[0,0]"), 0,
     "product does not fit 64 bits"},
    {"one offset", One("\"F32\"", "[1]", "[0]"), 4, "has data_offsets [0]"},
    {"three offsets", One("\"F32\"", "[1]", "[0,4,4]"), 4, "has data_offsets [0,4,4]"},
    {"offsets the wrong way round", One("\"F32\"", "[1]", "[4,0]"), 4, "0 <= begin <= end"},
    {"a negative offset", One("\"F32\"", "[1]", "[-4,0]"), 4, "has data_offsets [-4,0]"},
    {"an end beyond the file", One("\"F32\"", "[2]", "[0,8]"), 4, "ends at data byte 8, but the file has 4"},
    {"an end near 2^63", One("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4,
     "ends at data byte 9223372036854775807"},
    {"bytes that do not fit the shape", One("\"F32\"", "[3]", "[0,8]"), 8,
     "has 8 bytes by its offsets, but F32 [3] needs 12"},
    {"trailing bytes", One("\"F32\"", "[1]", "[0,4]"), 7,
     "3 bytes at the end of the file belong to no tensor"},
    {"a hole at the beginning", One("\"F32\"", "[1]", "[4,8]"), 8,
     "4 bytes before tensor a belong to no tensor"},
    {"a hole in the middle",
     R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
     12, "4 bytes before tensor b belong to no tensor"},
    {"an overlap",
     R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
     6, "tensors a and b overlap by 2 bytes"},
    {"two tensors in one place",
     R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
     4, "tensors a and b overlap by 4 bytes"},
};

TEST(Safetensors, RefusesEachMalformedHeaderWithOneSentence) {
  for (const Malformed& row : kMalformed) {
    EXPECT_THAT(DefectsOfFile(Safetensors(row.header, std::string(row.data_bytes, '\0'))),
                ElementsAre(AllOf(HasSubstr("x.safetensors"), HasSubstr(row.phrase))))
        << row.what;
  }
}

TEST(Safetensors, RefusesBadLengths) {
  EXPECT_THAT(DefectsOfFile(""),
              ElementsAre(HasSubstr("has 0 bytes; a safetensors file begins with 8 bytes")));
  EXPECT_THAT(DefectsOfFile(std::string(7, '\0')), ElementsAre(HasSubstr("has 7 bytes")));
  std::string file = Safetensors(kGood, std::string(20, 'x'));
  EXPECT_THAT(DefectsOfFile(file.substr(0, 8 + 40)),
              ElementsAre(HasSubstr("2 to 40 are possible in a file of 48")));
  for (const char byte : {'\x7f', '\xff'}) {
    file[7] = byte;  // a length of about 2^63 or 2^64
    EXPECT_THAT(DefectsOfFile(file), ElementsAre(HasSubstr("are possible in a file of"))) << int{byte};
  }
}

TEST(Safetensors, RefusesAHeaderOver100Megabytes) {
  const TempDirectory directory;
  WriteBytes(directory / "x.safetensors", std::string("\x01\xe1\xf5\x05\0\0\0\0", 8));  // 100'000'001
  std::filesystem::resize_file(directory / "x.safetensors", 200'000'000);               // sparse
  Defects defects;
  ReadSafetensorsHeader(directory / "x.safetensors", defects);
  EXPECT_THAT(defects.sentences(), ElementsAre(HasSubstr("2 to 100000000 are possible")));
}

TEST(Safetensors, DoesNotWaitForAPipe) {
  const TempDirectory directory;
  ASSERT_EQ(mkfifo((directory / "x.safetensors").c_str(), 0600), 0);
  Defects defects;
  ReadSafetensorsHeader(directory / "x.safetensors", defects);
  EXPECT_THAT(defects.sentences(), ElementsAre(HasSubstr("is not a regular file")));
}

TEST(Safetensors, NamesEveryDefectOfOneHeader) {
  EXPECT_THAT(DefectsOfFile(Safetensors(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]},)"
                                        R"("b":{"dtype":"Q4","shape":[1],"data_offsets":[4,8]},)"
                                        R"("c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                                        R"("d":{"dtype":"F32","shape":[1],"data_offsets":[10,14]}})",
                                        std::string(14, '\0'))),
              ElementsAre(HasSubstr("tensor a has 4 bytes"), HasSubstr("tensor b has dtype \"Q4\""),
                          HasSubstr("tensors c and d overlap by 2 bytes")));
}

// Any change of a header either is refused or leaves entries that lie within the file and do not overlap.
TEST(Safetensors, TenThousandMutationsNeitherCrashNorPassUnchecked) {
  std::mt19937_64 random(20'241'124);
  const std::string good = kGood;
  const std::string alphabet = "{}[]\",:0123456789-eE.abdtypeshF32B16 \\u\xff";
  int accepted = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string header = good;
    const auto edits = 1 + random() % 4;
    for (uint64_t edit = 0; edit < edits && !header.empty(); ++edit) {
      const size_t at = random() % header.size();
      switch (random() % 5) {
        case 0:
          header[at] = static_cast<char>(random());
          break;
        case 1:
          header[at] = alphabet[random() % alphabet.size()];
          break;
        case 2:
          header.erase(at, 1 + random() % 8);
          break;
        case 3:
          header.insert(at, header.substr(random() % header.size(), random() % 40));
          break;
        default:
          header.insert(at, 1, alphabet[random() % alphabet.size()]);
      }
    }
    Defects defects;
    const int64_t data_begin = 8 + std::ssize(header);
    const SafetensorsHeader parsed =
        ParseSafetensorsHeader(header, data_begin, data_begin + 20, "x", defects);
    if (!defects.empty()) continue;
    ++accepted;
    int64_t bytes = 0;
    for (const auto& [name, entry] : parsed.tensors) {
      ASSERT_GE(entry.begin, data_begin) << header;
      ASSERT_LE(entry.begin + entry.bytes, data_begin + 20) << header;
      int64_t product = SizeOf(entry.dtype);
      for (const int64_t extent : entry.shape) product *= extent;
      ASSERT_EQ(product, entry.bytes) << header;
      bytes += entry.bytes;
    }
    ASSERT_EQ(bytes, 20) << header;
  }
  EXPECT_GT(accepted, 100);  // the check above is not vacuous
}

}  // namespace
}  // namespace sluice::checkpoint
