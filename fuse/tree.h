// What is to be seen under the mount point: one file, or one directory with one file in it.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>

#include "core/guest_disk.h"
#include "fuse/libfuse.h"

namespace fuse {

enum class MountShape {
  directory,  ///< the mount point is a directory and holds the disk as a file
  file,       ///< the mount point is a file and is the disk
};

/// What the kernel does with what programs write.
enum class KernelCache {
  write_through,  ///< each write comes here before it returns
  write_back,     ///< the kernel gathers small writes, for some seconds, or until fsync or unmounting
};

/// How an inode looks, but for its size.
struct Appearance {
  mode_t permissions = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  timespec accessed{};
  timespec modified{};
  timespec changed{};
};

/// Owner, permissions and times live in memory only: the image has no place for them.
/// Threads    The engine's.
class Tree {
 public:
  /// `disk_name` is the file's name in the directory. `disk` must outlive the tree.
  Tree(MountShape shape, std::string disk_name, const Appearance& disk_looks, const core::GuestDisk& disk,
       KernelCache kernel_cache = KernelCache::write_through);

  KernelCache kernel_cache() const { return kernel_cache_; }
  MountShape shape() const { return shape_; }
  const std::string& disk_name() const { return disk_name_; }
  fuse_ino_t disk_inode() const { return shape_ == MountShape::file ? FUSE_ROOT_ID : FUSE_ROOT_ID + 1; }
  bool is_disk(fuse_ino_t inode) const { return inode == disk_inode(); }

  std::optional<fuse_ino_t> find(fuse_ino_t parent, std::string_view name) const;
  std::optional<struct stat> attributes(fuse_ino_t inode) const;

  /// How long the kernel may go without asking again. Nobody but the kernel changes anything, with one
  /// exception: the space that the disk takes changes as data is compressed, at any time.
  static constexpr double names_valid_s = 86400;
  double attributes_valid_s(fuse_ino_t inode) const {
    if (!is_disk(inode)) return names_valid_s;
    return kernel_cache_ == KernelCache::write_back ? 1 : 0;  // it would ask before each write that it gathers
  }

  /// The disk's content changed now.
  void touch();
  /// Takes over what `mask` (FUSE_SET_ATTR_*) names, but for the size.
  void change(fuse_ino_t inode, const struct stat& wanted, int mask);

 private:
  Appearance& looks(fuse_ino_t inode) { return is_disk(inode) ? disk_looks_ : directory_looks_; }

  MountShape shape_;
  std::string disk_name_;
  Appearance disk_looks_;
  Appearance directory_looks_;
  const core::GuestDisk& disk_;
  KernelCache kernel_cache_;
};

}  // namespace fuse
