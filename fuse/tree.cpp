#include "fuse/tree.h"

#include <ctime>
#include <utility>

#include "core/check.h"

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

Tree::Tree(MountShape shape, std::vector<ShownFile> files, const Appearance& file_looks, KernelCache kernel_cache)
    : shape_(shape),
      files_(std::move(files)),
      file_looks_(files_.size(), file_looks),
      directory_looks_(directory_of(file_looks)),
      kernel_cache_(kernel_cache) {
  CHECK(!files_.empty() && (shape == MountShape::directory || files_.size() == 1));
}

std::optional<std::size_t> Tree::file_at(fuse_ino_t inode) const {
  if (inode < first_inode() || inode - first_inode() >= files_.size()) return std::nullopt;
  return inode - first_inode();
}

std::optional<fuse_ino_t> Tree::find(fuse_ino_t parent, std::string_view name) const {
  if (shape_ != MountShape::directory || parent != FUSE_ROOT_ID) return std::nullopt;
  for (std::size_t file = 0; file < files_.size(); ++file) {
    if (files_[file].name == name) return inode_of(file);
  }
  return std::nullopt;
}

std::optional<struct stat> Tree::attributes(fuse_ino_t inode) const {
  const std::optional<std::size_t> file = file_at(inode);
  if (!file && inode != FUSE_ROOT_ID) return std::nullopt;
  const Appearance& look = file ? file_looks_[*file] : directory_looks_;
  struct stat facts {};
  facts.st_ino = inode;
  facts.st_mode = (file ? S_IFREG : S_IFDIR) | look.permissions;
  facts.st_nlink = file ? 1 : 2;
  facts.st_uid = look.uid;
  facts.st_gid = look.gid;
  facts.st_atim = look.accessed;
  facts.st_mtim = look.modified;
  facts.st_ctim = look.changed;
  facts.st_blksize = files_.front().disk->cluster_size();
  if (file) {
    const core::GuestDisk& disk = *files_[*file].disk;
    facts.st_size = static_cast<off_t>(disk.size());
    facts.st_blocks = static_cast<blkcnt_t>(disk.allocated_bytes() / stat_block_bytes);
  }
  return facts;
}

Appearance& Tree::looks(fuse_ino_t inode) {
  const std::optional<std::size_t> file = file_at(inode);
  return file ? file_looks_[*file] : directory_looks_;
}

void Tree::touch(fuse_ino_t inode) {
  Appearance& look = looks(inode);
  look.modified = look.changed = now();
  look.permissions &= ~set_id_bits;
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
