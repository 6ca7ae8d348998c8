#include "fuse/tree.h"

#include <ctime>
#include <utility>

namespace fuse {
namespace {

constexpr mode_t permission_bits = 07777;
// The kernel leaves it to us to take them away where the content or the owner changes.
constexpr mode_t set_id_bits = S_ISUID | S_ISGID;
constexpr unsigned stat_block_bytes = 512;  // the unit of st_blocks, whatever the file system

timespec now() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return time;
}

// Whoever may read the file may look into its directory. Nobody can make or remove entries, so write bits say
// nothing.
Appearance directory_of(const Appearance& file) {
  Appearance directory = file;
  const mode_t readable = file.permissions & 0444;
  directory.permissions = 0500 | readable | (readable >> 2);
  return directory;
}

}  // namespace

Tree::Tree(MountShape shape, std::string disk_name, const Appearance& disk_looks, const core::GuestDisk& disk,
           KernelCache kernel_cache)
    : shape_(shape),
      disk_name_(std::move(disk_name)),
      disk_looks_(disk_looks),
      directory_looks_(directory_of(disk_looks)),
      disk_(disk),
      kernel_cache_(kernel_cache) {}

std::optional<fuse_ino_t> Tree::find(fuse_ino_t parent, std::string_view name) const {
  if (shape_ == MountShape::directory && parent == FUSE_ROOT_ID && name == disk_name_) return disk_inode();
  return std::nullopt;
}

std::optional<struct stat> Tree::attributes(fuse_ino_t inode) const {
  if (inode != disk_inode() && inode != FUSE_ROOT_ID) return std::nullopt;
  const Appearance& look = is_disk(inode) ? disk_looks_ : directory_looks_;
  struct stat facts {};
  facts.st_ino = inode;
  facts.st_mode = (is_disk(inode) ? S_IFREG : S_IFDIR) | look.permissions;
  facts.st_nlink = is_disk(inode) ? 1 : 2;
  facts.st_uid = look.uid;
  facts.st_gid = look.gid;
  facts.st_atim = look.accessed;
  facts.st_mtim = look.modified;
  facts.st_ctim = look.changed;
  facts.st_blksize = disk_.cluster_size();
  if (is_disk(inode)) {
    facts.st_size = static_cast<off_t>(disk_.size());
    facts.st_blocks = static_cast<blkcnt_t>(disk_.allocated_bytes() / stat_block_bytes);
  }
  return facts;
}

void Tree::touch() {
  disk_looks_.modified = disk_looks_.changed = now();
  disk_looks_.permissions &= ~set_id_bits;
}

void Tree::change(fuse_ino_t inode, const struct stat& wanted, int mask) {
  Appearance& look = looks(inode);
  const timespec current = now();
  if ((mask & FUSE_SET_ATTR_MODE) != 0) look.permissions = wanted.st_mode & permission_bits;
  if ((mask & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) look.permissions &= ~set_id_bits;
  if ((mask & FUSE_SET_ATTR_UID) != 0) look.uid = wanted.st_uid;
  if ((mask & FUSE_SET_ATTR_GID) != 0) look.gid = wanted.st_gid;
  if ((mask & FUSE_SET_ATTR_ATIME) != 0) look.accessed = wanted.st_atim;
  if ((mask & FUSE_SET_ATTR_MTIME) != 0) look.modified = wanted.st_mtim;
  if ((mask & FUSE_SET_ATTR_ATIME_NOW) != 0) look.accessed = current;
  if ((mask & FUSE_SET_ATTR_MTIME_NOW) != 0) look.modified = current;
  look.changed = current;
}

}  // namespace fuse
