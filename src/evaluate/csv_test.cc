#include "evaluate/csv.h"

#include <gtest/gtest.h>

namespace sluice::evaluate {
namespace {

using Cells = std::vector<std::string>;

TEST(Csv, ReadsQuotesLineEndsAndBlankLines) {
  const auto rows = ReadCsv("a,b\r\n\n\"x, \"\"y\"\"\nz\",,\"\"\n\"p\"q,r\"s\n,\n\"last\"");
  ASSERT_EQ(rows.size(), 5);
  EXPECT_EQ(rows[0].cells, (Cells{"a", "b"}));
  EXPECT_EQ(rows[1].cells, (Cells{"x, \"y\"\nz", "", ""}));
  EXPECT_EQ(rows[2].cells, (Cells{"pq", "r\"s"}));
  EXPECT_EQ(rows[3].cells, (Cells{"", ""}));
  EXPECT_EQ(rows[4].cells, (Cells{"last"}));
  const int64_t lines[] = {1, 3, 5, 6, 7};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].line, lines[i]);
    EXPECT_TRUE(rows[i].closed);
  }
  EXPECT_FALSE(ReadCsv("a,\"b").front().closed);
  EXPECT_TRUE(ReadCsv("\r\n\n").empty());
}

}  // namespace
}  // namespace sluice::evaluate
