#include "tensor/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace sluice {
namespace {

class Host final : public Memory {
 public:
  bool OnHost() const override { return true; }
  std::byte* Allocate(int64_t bytes) override {
    void* memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      Fail(ErrorKind::kMemory, "the system refused {} bytes of memory: {}", bytes, std::strerror(errno));
    }
    return static_cast<std::byte*>(memory);
  }
  void Free(std::byte* memory, int64_t bytes) noexcept override {
    munmap(memory, static_cast<size_t>(bytes));
  }
  void Copy(const void* from, void* to, int64_t bytes) override {
    std::memmove(to, from, static_cast<size_t>(bytes));
  }
};

}  // namespace

Memory& HostMemory() {
  static Host host;
  return host;
}

Memory& Memory::Landing() { return HostMemory(); }

}  // namespace sluice
