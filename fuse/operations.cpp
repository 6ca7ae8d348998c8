#include "fuse/operations.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "core/check.h"
#include "fuse/errno_map.h"

namespace fuse {
namespace {

constexpr std::uint64_t opened_for_writing = 1;  // a file handle

// Readahead and asynchronous direct I/O on their way at once. The kernel's own 12 leave a machine of many
// processors without work.
constexpr unsigned background_max = 64;
constexpr unsigned background_congested = 48;

constexpr unsigned protocol_minor_of_killpriv_v2 = 33;

core::DiskOffset disk_offset(off_t at) { return {static_cast<std::uint64_t>(at)}; }

}  // namespace

// Called by C: nothing may be thrown out of here, and everything must be answered.
struct Trampolines {
  static Operations& of(fuse_req_t request) { return *static_cast<Operations*>(fuse_req_userdata(request)); }

  // Starts the step that `make_step` returns for the file. A reply that is dropped on the way answers by
  // itself.
  template <class MakeStep>
  static void start(fuse_req_t request, fuse_ino_t inode, RequestKind kind, MakeStep make_step) noexcept {
    Operations& self = of(request);
    self.activity_.asked();
    Reply reply(request);
    const std::optional<std::size_t> file = self.tree_.file_at(inode);
    if (!file) return reply.error(EISDIR);
    try {
      auto held = std::make_unique<Reply>(std::move(reply));
      auto step = make_step(self.files_[*file], *held);
      self.requests_.start(kind, std::move(held), std::move(step));
    } catch (const std::bad_alloc&) {
      return;
    }
  }

  static void init(void* context, fuse_conn_info* connection) noexcept {
    auto* const self = static_cast<Operations*>(context);
    connection->max_write = ReceiveBuffer::payload_max;
    connection->max_background = background_max;
    connection->congestion_threshold = background_congested;
    // Splicing is no faster here; only the kernel changes the content, so its cache needs no doubt; and an
    // O_TRUNC that comes as a setattr of its own needs no second way to change the size.
    connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                                               FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC);
    connection->want |= connection->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
    if (self->tree_.kernel_cache() == KernelCache::write_back) {
      connection->want |= connection->capable & FUSE_CAP_WRITEBACK_CACHE;
    }
    self->drops_privileges_ = connection->proto_minor >= protocol_minor_of_killpriv_v2;
    self->initialised_ = true;
  }

  static void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
    Reply reply(request);
    const Tree& tree = of(request).tree_;
    const std::optional<fuse_ino_t> inode = tree.find(parent, name);
    if (!inode) return reply.error(ENOENT);
    fuse_entry_param entry{};
    entry.ino = *inode;
    entry.attr = *tree.attributes(*inode);
    entry.attr_timeout = tree.attributes_valid_s(*inode);
    entry.entry_timeout = Tree::names_valid_s;
    reply.entry(entry);
  }

  static void getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) noexcept {
    Reply reply(request);
    const Tree& tree = of(request).tree_;
    const std::optional<struct stat> facts = tree.attributes(inode);
    if (!facts) return reply.error(ENOENT);
    reply.attributes(*facts, tree.attributes_valid_s(inode));
  }

  static void setattr(fuse_req_t request, fuse_ino_t inode, struct stat* wanted, int mask, fuse_file_info*) noexcept {
    Tree& tree = of(request).tree_;
    if (!tree.file_at(inode)) {
      Reply reply(request);
      tree.change(inode, *wanted, mask);
      return reply.attributes(*tree.attributes(inode), tree.attributes_valid_s(inode));
    }
    start(request, inode, RequestKind::change,
          [&](DiskOperations& disk, Reply& reply) { return disk.change(reply, *wanted, mask); });
  }

  static void open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file) noexcept {
    Reply reply(request);
    Operations& self = of(request);
    if (!self.tree_.file_at(inode)) return reply.error(EISDIR);
    if (self.disk_.read_only() && (file->flags & O_ACCMODE) != O_RDONLY) return reply.error(EROFS);
    file->keep_cache = 1;
    file->fh = (file->flags & O_ACCMODE) != O_RDONLY ? opened_for_writing : 0;
    // Counted before it is answered: the release may come at once.
    self.activity_.opened();
    if (!reply.opened(*file)) self.activity_.closed();
  }

  static void release(fuse_req_t request, fuse_ino_t, fuse_file_info*) noexcept {
    of(request).activity_.closed();
    Reply(request).done();
  }

  static void read(fuse_req_t request, fuse_ino_t inode, std::size_t length, off_t at, fuse_file_info*) noexcept {
    start(request, inode, RequestKind::read,
          [=](DiskOperations& disk, Reply& reply) { return disk.read(reply, disk_offset(at), length); });
  }

  static void write(fuse_req_t request, fuse_ino_t inode, const char* data, std::size_t length, off_t at,
                    fuse_file_info* file) noexcept {
    ReceiveBuffer& received = of(request).received_;
    const AtTheEnd at_the_end = (file->flags & O_DIRECT) != 0 ? AtTheEnd::refused : AtTheEnd::cut_short;
    start(request, inode, RequestKind::write, [=, &received](DiskOperations& disk, Reply& reply) {
      core::SharedBytes payload = received.keep({reinterpret_cast<const std::byte*>(data), length});
      return disk.write(reply, disk_offset(at), std::move(payload), at_the_end);
    });
  }

  // close(2): costs nothing but must not hide from a writer that something written before is lost.
  static void flush(fuse_req_t request, fuse_ino_t, fuse_file_info* file) noexcept {
    Reply reply(request);
    const core::ErrorCode failure = of(request).disk_.failure();
    reply.error(failure && file->fh == opened_for_writing ? to_errno(failure) : 0);
  }

  static void fsync(fuse_req_t request, fuse_ino_t inode, int, fuse_file_info*) noexcept {
    start(request, inode, RequestKind::flush, [](DiskOperations& disk, Reply& reply) { return disk.flush(reply); });
  }

  // The directory is made up anew by every mount.
  static void fsyncdir(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) noexcept { Reply(request).done(); }

  static void fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t at, off_t length,
                        fuse_file_info*) noexcept {
    start(request, inode, RequestKind::zero, [=](DiskOperations& disk, Reply& reply) {
      return disk.allocate(reply, mode, disk_offset(at), static_cast<std::uint64_t>(length));
    });
  }

  static void lseek(fuse_req_t request, fuse_ino_t inode, off_t at, int whence, fuse_file_info*) noexcept {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return Reply(request).error(EINVAL);
    // What the kernel has gathered is not known here, and it does not send it before it asks: let it take all for data.
    if (of(request).tree_.kernel_cache() == KernelCache::write_back) return Reply(request).error(ENOSYS);
    start(request, inode, RequestKind::seek, [=](DiskOperations& disk, Reply& reply) {
      if (whence == SEEK_DATA) return disk.seek_data(reply, disk_offset(at));
      return disk.seek_hole(reply, disk_offset(at));
    });
  }

  static void readdir(fuse_req_t request, fuse_ino_t inode, std::size_t room, off_t first, fuse_file_info*) noexcept {
    of(request).activity_.asked();
    Reply reply(request);
    const Tree& tree = of(request).tree_;
    const std::optional<struct stat> directory = tree.attributes(inode);
    if (!directory || !S_ISDIR(directory->st_mode)) return reply.error(ENOTDIR);
    struct Row {
      const char* name;
      struct stat facts;
    };
    std::vector<Row> rows = {{".", *directory}, {"..", *directory}};
    for (std::size_t file = 0; file < tree.files().size(); ++file) {
      rows.push_back({tree.files()[file].name.c_str(), *tree.attributes(tree.inode_of(file))});
    }

    core::Buffer list(room);
    auto* const text = reinterpret_cast<char*>(list.data());
    std::size_t used = 0;
    for (auto index = static_cast<std::size_t>(first); index < rows.size(); ++index) {
      const Row& row = rows[index];
      const auto next = static_cast<off_t>(index + 1);
      const std::size_t needed = fuse_add_direntry(request, text + used, room - used, row.name, &row.facts, next);
      if (needed > room - used) break;
      used += needed;
    }
    const core::Bytes bytes = list.span();
    reply.bytes(bytes.first(used));
  }

  // Before each write the kernel asks for security.capability, unless it was told that privileges are dropped here.
  // Where it cannot be told, ENOSYS keeps it from asking, for any name.
  static void getxattr(fuse_req_t request, fuse_ino_t, const char* name, std::size_t room) noexcept {
    Reply reply(request);
    const Operations& self = of(request);
    if (!self.drops_privileges_) return reply.error(ENOSYS);
    try {
      std::string value;
      const int error = self.attributes_.get(name, value);
      if (error != 0) return reply.error(error);
      reply.attribute(value, room);
    } catch (const std::bad_alloc&) {
      return;
    }
  }

  static void listxattr(fuse_req_t request, fuse_ino_t, std::size_t room) noexcept {
    Reply reply(request);
    const Operations& self = of(request);
    if (!self.drops_privileges_) return reply.error(ENOSYS);
    try {
      reply.attribute(self.attributes_.list(), room);
    } catch (const std::bad_alloc&) {
      return;
    }
  }

  static void setxattr(fuse_req_t request, fuse_ino_t, const char* name, const char* value, std::size_t length,
                       int) noexcept {
    Reply reply(request);
    try {
      reply.error(of(request).attributes_.set(name, std::string(value, length)));
    } catch (const std::bad_alloc&) {
      return;
    }
  }

  static void statfs(fuse_req_t request, fuse_ino_t) noexcept {
    Reply reply(request);
    struct statvfs facts {};
    const int image = of(request).image_descriptor_;
    facts.f_bsize = facts.f_frsize = 4096;  // of a server's file system nothing is known
    facts.f_namemax = NAME_MAX;
    if (image >= 0 && ::fstatvfs(image, &facts) != 0) return reply.error(errno);
    reply.statistics(facts);
  }
};

Operations::Operations(core::Engine& engine, core::GuestDisk& disk, Tree& tree, ReceiveBuffer& received,
                       int image_descriptor)
    : disk_(disk),
      tree_(tree),
      received_(received),
      image_descriptor_(image_descriptor),
      attributes_(engine, disk, statistics_),
      requests_(engine, statistics_) {
  for (std::size_t file = 0; file < tree.files().size(); ++file) files_.emplace_back(tree, file, statistics_);
}

void Operations::amend_greeting(iovec* pieces, int count) {
  if (greeted_) return;
  greeted_ = true;
  CHECK(count == 2 && pieces[1].iov_len >= offsetof(fuse_init_out, flags) + sizeof(fuse_init_out::flags));
  if (drops_privileges_) static_cast<fuse_init_out*>(pieces[1].iov_base)->flags |= FUSE_HANDLE_KILLPRIV_V2;
}

// Not here, as what libfuse or the kernel does without it is right: access (default_permissions), forget
// (inodes are never given back), opendir and releasedir (nothing to hold), removexattr and ioctl
// (not supported).
const fuse_lowlevel_ops& Operations::table() {
  static const fuse_lowlevel_ops table = [] {
    fuse_lowlevel_ops ops{};
    ops.init = Trampolines::init;
    ops.lookup = Trampolines::lookup;
    ops.getattr = Trampolines::getattr;
    ops.setattr = Trampolines::setattr;
    ops.open = Trampolines::open;
    ops.release = Trampolines::release;
    ops.read = Trampolines::read;
    ops.write = Trampolines::write;
    ops.flush = Trampolines::flush;
    ops.fsync = Trampolines::fsync;
    ops.fsyncdir = Trampolines::fsyncdir;
    ops.fallocate = Trampolines::fallocate;
    ops.lseek = Trampolines::lseek;
    ops.getxattr = Trampolines::getxattr;
    ops.listxattr = Trampolines::listxattr;
    ops.setxattr = Trampolines::setxattr;
    ops.readdir = Trampolines::readdir;
    ops.statfs = Trampolines::statfs;
    // The names cannot be changed and get no company.
    ops.create = [](fuse_req_t r, fuse_ino_t, const char*, mode_t, fuse_file_info*) { Reply(r).error(EPERM); };
    ops.mknod = [](fuse_req_t r, fuse_ino_t, const char*, mode_t, dev_t) { Reply(r).error(EPERM); };
    ops.mkdir = [](fuse_req_t r, fuse_ino_t, const char*, mode_t) { Reply(r).error(EPERM); };
    ops.symlink = [](fuse_req_t r, const char*, fuse_ino_t, const char*) { Reply(r).error(EPERM); };
    ops.link = [](fuse_req_t r, fuse_ino_t, fuse_ino_t, const char*) { Reply(r).error(EPERM); };
    ops.unlink = [](fuse_req_t r, fuse_ino_t, const char*) { Reply(r).error(EPERM); };
    ops.rmdir = [](fuse_req_t r, fuse_ino_t, const char*) { Reply(r).error(EPERM); };
    ops.rename = [](fuse_req_t r, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) {
      Reply(r).error(EPERM);
    };
    return ops;
  }();
  return table;
}

}  // namespace fuse
