// A file in the making.
#pragma once

#include <cstdint>
#include <string>

#include "core/bytes.h"
#include "core/unique_fd.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// A file that did not exist before and does not exist afterwards, unless it is kept.
/// Errors     Throws core::Error that names the file.
/// Threads    One at a time.
class NewFile {
 public:
  /// `name` is what messages call it.
  NewFile(const std::string& path, const std::string& name);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  /// It is zeros up to `size` then, which take no space.
  void stretch(std::uint64_t size);
  /// Has the file system set space aside. Throws ENOSPC where there is not that much; false where the file system makes
  /// no such promises.
  bool reserve(HostExtent extent);
  void write(HostOffset at, core::Bytes source);
  /// Makes it durable, its name too.
  void sync();
  void keep() { kept_ = true; }

 private:
  void sync_name();

  std::string path_;
  std::string name_;
  core::UniqueFd fd_;
  bool kept_ = false;
};

}  // namespace qcow2
