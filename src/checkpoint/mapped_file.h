#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace sluice::checkpoint {

// What a file was when its header was checked. A later difference means that it was cut or rewritten.
struct FileIdentity {
  int64_t bytes = 0;
  int64_t modified_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

// A regular file open for reading. Thread-safe. Every failure is an Error(kModelFiles) that names the file.
class OpenFile {
 public:
  // Refuses what is missing, unreadable or not a regular file (a pipe or device is not waited for).
  explicit OpenFile(const std::filesystem::path& path);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int64_t bytes() const { return identity_.bytes; }
  // As it was when opened.
  const FileIdentity& identity() const { return identity_; }
  int descriptor() const { return descriptor_; }

  // Fills `out` from byte `offset`. A file that ends sooner is an error.
  void ReadAt(int64_t offset, std::span<std::byte> out) const;
  // Throws if the file's size or modification time is no longer `expected`.
  void ExpectIdentity(const FileIdentity& expected) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  FileIdentity identity_;
};

// A whole file mapped read-only; pages come from the disk on first touch.
//
// What is guaranteed when another process cuts or rewrites the file meanwhile: reading through data() never
// ends the process. A page that is gone reads as zeros (a SIGBUS handler for registered mappings puts a zero
// page there and marks the mapping), and VerifyIntact, called after the last read, throws an Error that names
// the file. Whoever uses the bytes calls it before relying on them.
class MappedFile {
 public:
  // Throws Error(kModelFiles) if the file is not the one described by `expected`.
  MappedFile(const std::filesystem::path& path, const FileIdentity& expected);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  int64_t bytes() const { return file_.bytes(); }
  const OpenFile& file() const { return file_; }
  void VerifyIntact() const;
  // Takes the pages of [begin, begin + bytes) out of this process's resident memory. They stay readable and
  // in the page cache, from where the next touch brings them back.
  void ReleasePages(int64_t begin, int64_t bytes) const;

 private:
  OpenFile file_;
  const std::byte* data_ = nullptr;
  size_t slot_ = 0;  // of the SIGBUS handler's table
};

}  // namespace sluice::checkpoint
