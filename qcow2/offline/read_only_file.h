// An image file for whoever looks at it without serving it: plain reads that block, no engine.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/unique_fd.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// A regular file or a block device.
/// Errors     Throws core::Error whose sentence names the path.
class ReadOnlyFile {
 public:
  explicit ReadOnlyFile(const std::string& path);

  const std::string& path() const { return path_; }
  int descriptor() const { return fd_.get(); }
  std::uint64_t size() const;            ///< bytes
  std::uint64_t allocated_size() const;  ///< bytes that it takes on its file system
  /// What there is of [at, at + length).
  std::vector<std::byte> read(HostOffset at, std::size_t length) const;
  /// The same, with zeros for what lies beyond the end of the file.
  std::vector<std::byte> read_padded(HostOffset at, std::size_t length) const;

 private:
  std::string path_;
  core::UniqueFd fd_;
  struct stat facts_ {};
};

}  // namespace qcow2
