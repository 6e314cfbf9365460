#include "checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::checkpoint {
namespace {

FileIdentity IdentityOf(const struct stat& status) {
  return {status.st_size, status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
}

[[noreturn]] void FailChanged(const std::filesystem::path& path, const FileIdentity& expected,
                              const FileIdentity& found) {
  if (found.bytes != expected.bytes) {
    Fail(ErrorKind::kModelFiles,
         "{} had {} bytes when it was checked and has {} now: it was cut or rewritten while in use; restore "
         "the file and start again.",
         path.string(), expected.bytes, found.bytes);
  }
  Fail(ErrorKind::kModelFiles, "{} was rewritten while in use; leave a checkpoint alone while it is loaded.",
       path.string());
}

// The regions in which a bus error is a cut file and not a bug. A slot is taken by storing `begin` last; the
// handler only reads, so it needs no lock. begin == 0: free, begin == kReserved: being filled.
struct Region {
  std::atomic<uintptr_t> begin{0};
  std::atomic<size_t> bytes{0};
  std::atomic<bool> lost{false};
};
constexpr uintptr_t kReserved = 1;
std::array<Region, 4096> regions;
static_assert(std::atomic<uintptr_t>::is_always_lock_free);
struct sigaction previous_action;

void OnBusError(int signal, siginfo_t* info, void* context) {
  // A signal that somebody sent has no address.
  const uintptr_t address = info->si_code > 0 ? reinterpret_cast<uintptr_t>(info->si_addr) : 0;
  for (Region& region : regions) {
    const uintptr_t begin = region.begin.load(std::memory_order_acquire);
    const size_t bytes = region.bytes.load(std::memory_order_relaxed);
    if (begin <= kReserved || address < begin || address >= begin + bytes) continue;
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    void* lost_page = reinterpret_cast<void*>(address / page * page);
    region.lost.store(true, std::memory_order_release);
    const int saved_errno = errno;
    if (mmap(lost_page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
      errno = saved_errno;
      return;
    }
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal);
  } else {
    // Back to the default, which then ends the process as it would have.
    sigaction(SIGBUS, &previous_action, nullptr);
    raise(SIGBUS);
  }
}

size_t RegisterRegion(const void* data, int64_t bytes) {
  static std::once_flag installed;
  std::call_once(installed, [] {
    struct sigaction action = {};
    action.sa_sigaction = &OnBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    SLUICE_CHECK(sigaction(SIGBUS, &action, &previous_action) == 0);
  });
  for (size_t slot = 0; slot < regions.size(); ++slot) {
    uintptr_t free_slot = 0;
    if (!regions[slot].begin.compare_exchange_strong(free_slot, kReserved)) continue;
    regions[slot].bytes.store(static_cast<size_t>(bytes), std::memory_order_relaxed);
    regions[slot].lost.store(false, std::memory_order_relaxed);
    regions[slot].begin.store(reinterpret_cast<uintptr_t>(data), std::memory_order_release);
    return slot;
  }
  Fail(ErrorKind::kModelFiles, "More than {} checkpoint files are mapped at once; use fewer, larger shards.",
       regions.size());
}

}  // namespace

OpenFile::OpenFile(const std::filesystem::path& path) : path_(path) {
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    Fail(ErrorKind::kModelFiles, "{} cannot be opened: {}.", path.string(), std::strerror(errno));
  }
  struct stat status = {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    Fail(ErrorKind::kModelFiles, "{} is not a regular file.", path.string());
  }
  identity_ = IdentityOf(status);
}

OpenFile::~OpenFile() { close(descriptor_); }

void OpenFile::ReadAt(int64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        pread(descriptor_, out.data() + done, out.size() - done, offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      Fail(ErrorKind::kModelFiles, "{} cannot be read at byte {}: {}.", path_.string(),
           offset + static_cast<int64_t>(done), std::strerror(errno));
    }
    if (got == 0) {
      Fail(ErrorKind::kModelFiles,
           "{} ends at byte {}, but {} bytes from {} are needed: the file was cut; restore it and start "
           "again.",
           path_.string(), offset + static_cast<int64_t>(done), out.size(), offset);
    }
    done += static_cast<size_t>(got);
  }
}

void OpenFile::ExpectIdentity(const FileIdentity& expected) const {
  struct stat status = {};
  SLUICE_CHECK(fstat(descriptor_, &status) == 0);
  if (IdentityOf(status) != expected) FailChanged(path_, expected, IdentityOf(status));
}

MappedFile::MappedFile(const std::filesystem::path& path, const FileIdentity& expected) : file_(path) {
  file_.ExpectIdentity(expected);
  void* memory = mmap(nullptr, static_cast<size_t>(bytes()), PROT_READ, MAP_PRIVATE, file_.descriptor(), 0);
  if (memory == MAP_FAILED) {
    Fail(ErrorKind::kModelFiles, "{} cannot be mapped ({} bytes): {}.", path.string(), bytes(),
         std::strerror(errno));
  }
  data_ = static_cast<const std::byte*>(memory);
  try {
    slot_ = RegisterRegion(memory, bytes());
  } catch (...) {
    munmap(memory, static_cast<size_t>(bytes()));
    throw;
  }
}

MappedFile::~MappedFile() {
  // The mapping goes first: once the slot is free, a fault at this address is again a bug.
  munmap(const_cast<std::byte*>(data_), static_cast<size_t>(bytes()));
  regions[slot_].begin.store(0, std::memory_order_release);
}

void MappedFile::ReleasePages(int64_t begin, int64_t bytes) const {
  SLUICE_CHECK(begin >= 0 && bytes >= 0 && begin + bytes <= this->bytes());
  if (bytes == 0) return;
  // A touch brings in the pages around it, too (fault_around_bytes), so all that share a window with these
  // go. Whoever reads them touches them again.
  constexpr int64_t kWindow = 64 << 10;
  const auto map = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data_));
  const int64_t first = std::max(map, (map + begin) / kWindow * kWindow);
  const int64_t end = std::min(map + this->bytes(), CeilDiv(map + begin + bytes, kWindow) * kWindow);
  madvise(const_cast<std::byte*>(data_) + (first - map), static_cast<size_t>(end - first), MADV_DONTNEED);
}

void MappedFile::VerifyIntact() const {
  file_.ExpectIdentity(file_.identity());
  if (regions[slot_].lost.load(std::memory_order_acquire)) {
    Fail(ErrorKind::kModelFiles,
         "{} could not be read in full: it was cut while in use, or the disk failed; restore the file and "
         "start "
         "again.",
         file_.path().string());
  }
}

}  // namespace sluice::checkpoint
