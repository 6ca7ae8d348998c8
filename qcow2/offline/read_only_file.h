// The image file for work on images that are not mounted: blocking reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/blocking_file.h"
#include "core/bytes.h"
#include "core/unique_fd.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Units    Bytes of the file, any alignment.
/// Errors   Throws core::Error that names the path.
/// Threads  Every method may be called from any number of threads at once.
class ReadOnlyFile {
 public:
  enum class Lock { none, against_writers };

  /// Accepts a regular file or a block device. With a lock, nobody writes to the image until this object is gone;
  /// throws image_locked where somebody does already.
  explicit ReadOnlyFile(const std::string& path, Lock lock = Lock::none) : ReadOnlyFile(path, lock, path) {}
  /// `name` is what messages call it, and path().
  ReadOnlyFile(const std::string& path, Lock lock, const std::string& name);
  /// Reads a file that its owner, from whom it is borrowed, has open and locked.
  ReadOnlyFile(core::BlockingFile& file, const std::string& name);

  const std::string& path() const { return path_; }
  /// Borrowed, to ask the file system about it; none where it has no path.
  int descriptor() const { return fd_.get(); }
  std::uint64_t size() const { return size_; }  ///< when it was opened
  std::uint64_t allocated_size() const { return allocated_size_; }
  /// Bytes that tables of one kind, each a part of the file of its own, cannot have together. Damage may let some of
  /// them overlap, and some lie in holes; who makes all of them one does not get all day.
  std::uint64_t tables_bytes_max() const { return tables_bytes_max_; }

  /// What there is of [at, at + length).
  std::vector<std::byte> read(HostOffset at, std::size_t length) const;
  /// Fills `target`, beyond the end of the file with zeros, as QEMU reads it.
  void read_or_zeros(HostOffset at, core::MutableBytes target) const;
  std::vector<std::byte> read_or_zeros(HostOffset at, std::size_t length) const;

  /// A hole of the file, or data without one, as far as it goes.
  struct Run {
    bool is_hole = false;
    std::uint64_t length = 0;  ///< all ones: to the end of the file, or on behind it
  };
  /// The run that has the byte at `at`. Where the file system knows no holes, all is data.
  Run run_at(HostOffset at) const;

 private:
  void limit_tables();
  std::size_t read_some(HostOffset at, core::MutableBytes target) const;
  std::size_t read_descriptor(HostOffset at, core::MutableBytes target) const;

  std::string path_;
  core::UniqueFd fd_;
  core::BlockingFile* open_file_ = nullptr;  ///< instead
  std::uint64_t size_ = 0;
  std::uint64_t allocated_size_ = 0;
  std::uint64_t tables_bytes_max_ = 0;
};

}  // namespace qcow2
