// Where the bytes of a copy go.
#pragma once

#include <cstdint>
#include <string>

#include "core/direct_file.h"
#include "core/engine.h"
#include "core/guest_disk.h"
#include "fuse/verb_work.h"

namespace fuse {

/// Starts out as zeros.
/// Errors     Throws core::Error.
/// Threads    The engine's strand.
class CopyTarget {
 public:
  virtual ~CopyTarget() = default;
  /// Whether write() must be called for one piece after the other, in the order of the disk.
  virtual bool in_order() const = 0;
  virtual core::Awaitable<void> write(core::DiskOffset at, core::SharedBytes bytes) = 0;
  /// Everything was written, and the disk has `size` bytes.
  virtual core::Awaitable<void> finish(std::uint64_t size) = 0;
};

/// A disk that knows for itself what zeros are. In order, for whoever reads the image from front to back.
class DiskTarget final : public CopyTarget {
 public:
  /// `name` begins the sentences of failures.
  DiskTarget(core::GuestDisk& disk, const std::string& name) : disk_(disk), name_(name) {}
  bool in_order() const override { return true; }
  core::Awaitable<void> write(core::DiskOffset at, core::SharedBytes bytes) override;
  core::Awaitable<void> finish(std::uint64_t size) override;
  /// Must be awaited once, whatever happened before.
  core::Awaitable<void> close() { return naming(name_, disk_.close()); }

 private:
  core::GuestDisk& disk_;
  std::string name_;
};

/// A sparse raw file.
class FileTarget final : public CopyTarget {
 public:
  /// `file` is empty, or as long as the disk and one hole. `name` begins the sentences of failures.
  FileTarget(core::Engine& engine, core::DirectFile& file, const std::string& name)
      : engine_(engine), file_(file), name_(name) {}
  bool in_order() const override { return false; }
  core::Awaitable<void> write(core::DiskOffset at, core::SharedBytes bytes) override;
  core::Awaitable<void> finish(std::uint64_t size) override;

 private:
  core::Engine& engine_;
  core::DirectFile& file_;
  std::string name_;
};

/// A raw disk that goes through a pipe.
class StreamTarget final : public CopyTarget {
 public:
  StreamTarget(core::Engine& engine, int descriptor) : engine_(engine), descriptor_(descriptor) {}
  bool in_order() const override { return true; }
  core::Awaitable<void> write(core::DiskOffset at, core::SharedBytes bytes) override;
  core::Awaitable<void> finish(std::uint64_t size) override { return write_zeros(size); }

 private:
  core::Awaitable<void> write_zeros(std::uint64_t end);

  core::Engine& engine_;
  int descriptor_;
  std::uint64_t at_ = 0;  ///< bytes written
};

}  // namespace fuse
