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

// Counts the bytes that are taken from it.
class CountedMemory final : public Memory {
 public:
  bool OnHost() const override { return true; }
  std::byte* Allocate(int64_t bytes) override {
    in_use += bytes;
    return HostMemory().Allocate(bytes);
  }
  void Free(std::byte* memory, int64_t bytes) noexcept override {
    in_use -= bytes;
    HostMemory().Free(memory, bytes);
  }
  void Copy(const void* from, void* to, int64_t bytes) override { HostMemory().Copy(from, to, bytes); }
  int64_t in_use = 0;
};

TEST(Arena, HoldsBetweenPassesWhatTheLargestTook) {
  CountedMemory memory;
  Arena arena(memory);
  for (const int64_t bytes : {2 << 20, 5 << 20, 3 << 20, 9 << 20}) {  // of three tensors of a pass
    for (int tensor = 0; tensor < 3; ++tensor) arena.Allocate(bytes);
    arena.Reset();
    EXPECT_EQ(memory.in_use, arena.peak_bytes());
  }
  EXPECT_EQ(arena.peak_bytes(), 27 << 20);
  // Then nothing is taken any more, and all of it lies in one piece.
  const std::byte* first = arena.Allocate(10 << 20);
  EXPECT_EQ(arena.Allocate(17 << 20), first + (10 << 20));
  EXPECT_EQ(memory.in_use, 27 << 20);
}

}  // namespace
}  // namespace sluice
