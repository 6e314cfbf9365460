#include <gtest/gtest.h>

#include "tensor/tensor.h"

namespace sluice {
namespace {

TEST(Arena, WhatIsReservedIsAllThereIs) {
  Arena arena;
  arena.Reserve(1000);  // 1,024 in units of 256
  const std::byte* first = arena.Allocate(700);
  {
    const Arena::Scope scope(arena);
    EXPECT_EQ(arena.Allocate(1), first + 768);
    try {
      arena.Allocate(1);
      ADD_FAILURE() << "1,025 of 1,024 bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      EXPECT_STREQ(error.what(),
                   "a pass asks for 256 bytes of activations beside 1024 in use, and 1024 were reserved for "
                   "the largest");
    }
  }
  arena.Reset();
  EXPECT_EQ(arena.Allocate(1024), first);
  EXPECT_EQ(arena.peak_bytes(), 1024);
}

TEST(Arena, GrowsWhereNothingIsReserved) {
  Arena arena;
  arena.Allocate(1);
  arena.Allocate(3 << 20);
  EXPECT_EQ(arena.peak_bytes(), (3 << 20) + 256);
}

}  // namespace
}  // namespace sluice
