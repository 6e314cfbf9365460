#include "base/function_ref.h"

#include <gtest/gtest.h>

#include <memory>

namespace sluice {
namespace {

int Twice(FunctionRef<int(int)> call) { return call(1) + call(2); }

TEST(FunctionRef, CallsWhatItRefersTo) {
  int calls = 0;
  EXPECT_EQ(Twice([&](int x) { return 10 * x + calls++; }), 31);
  EXPECT_EQ(calls, 2);
  auto counting = [seen = 0](int x) mutable { return seen += x; };
  EXPECT_EQ(Twice(counting), 4);
  EXPECT_EQ(counting(0), 3);  // not a copy of it
}

TEST(FunctionRef, RefersToTheSameThingWhenItIsCopied) {
  const auto owned = std::make_unique<int>(7);
  const auto read = [&owned](int x) { return *owned + x; };
  const FunctionRef<int(int)> first(read);
  FunctionRef<int(int)> second = first;
  EXPECT_EQ(second(1), 8);
  static_assert(std::is_trivially_copyable_v<FunctionRef<int(int)>>);
  static_assert(sizeof(FunctionRef<int(int)>) == 2 * sizeof(void*));
}

}  // namespace
}  // namespace sluice
