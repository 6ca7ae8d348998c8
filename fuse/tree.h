// What is to be seen under the mount point: one file, or one directory with files in it.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

/// Whether a file may become longer or shorter. Where it may not, it is like a block device: what is written behind its
/// end finds no space.
enum class SizeChange { allowed, refused };

/// A disk, or a part of one, as a file.
struct ShownFile {
  std::string name;                 ///< in a directory
  core::GuestDisk* disk = nullptr;  ///< borrowed
  SizeChange size_change = SizeChange::allowed;
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
  /// `files`, one at least, and just one where the mount point is a file, all look like `file_looks` at first. Their
  /// disks must outlive the tree.
  Tree(MountShape shape, std::vector<ShownFile> files, const Appearance& file_looks,
       KernelCache kernel_cache = KernelCache::write_through);

  KernelCache kernel_cache() const { return kernel_cache_; }
  const std::vector<ShownFile>& files() const { return files_; }
  fuse_ino_t inode_of(std::size_t file) const { return first_inode() + file; }
  /// Which of files() it is; nothing for the directory.
  std::optional<std::size_t> file_at(fuse_ino_t inode) const;

  std::optional<fuse_ino_t> find(fuse_ino_t parent, std::string_view name) const;
  std::optional<struct stat> attributes(fuse_ino_t inode) const;

  /// How long the kernel may go without asking again. Nobody but the kernel changes anything, with one
  /// exception: the space that a disk takes changes as data is compressed, at any time.
  static constexpr double names_valid_s = 86400;
  double attributes_valid_s(fuse_ino_t inode) const {
    if (!file_at(inode)) return names_valid_s;
    return kernel_cache_ == KernelCache::write_back ? 1 : 0;  // it would ask before each write that it gathers
  }

  /// A file's content changed now.
  void touch(fuse_ino_t inode);
  /// Takes over what `mask` (FUSE_SET_ATTR_*) names, but for the size.
  void change(fuse_ino_t inode, const struct stat& wanted, int mask);

 private:
  fuse_ino_t first_inode() const { return shape_ == MountShape::file ? FUSE_ROOT_ID : FUSE_ROOT_ID + 1; }
  Appearance& looks(fuse_ino_t inode);

  MountShape shape_;
  std::vector<ShownFile> files_;
  std::vector<Appearance> file_looks_;
  Appearance directory_looks_;
  KernelCache kernel_cache_;
};

}  // namespace fuse
