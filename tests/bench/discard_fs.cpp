// What FUSE itself allows: one file that forgets what is written to it and reads as zeros. The same requests, sizes and
// number of receivers as qcowfs has; nothing behind them.
//
//   discard_fs SIZE FILE     mounts over the regular file FILE, in the foreground; SIGTERM ends it
#define FUSE_USE_VERSION 312

#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr unsigned request_bytes_max = 1 << 20;
constexpr unsigned background_max = 64;
constexpr unsigned background_congested = 48;
constexpr double attributes_valid_s = 3600;

off_t file_size = 0;  // set once, before the first request
const std::vector<char> zeros(request_bytes_max);

struct stat attributes(fuse_ino_t inode) {
  struct stat facts {};
  facts.st_ino = inode;
  facts.st_mode = S_IFREG | 0600;
  facts.st_nlink = 1;
  facts.st_uid = ::getuid();
  facts.st_gid = ::getgid();
  facts.st_size = file_size;
  facts.st_blksize = 1 << 16;
  return facts;
}

void init(void*, fuse_conn_info* connection) {
  connection->max_write = request_bytes_max;
  connection->max_background = background_max;
  connection->congestion_threshold = background_congested;
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                                             FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC);
  connection->want |= connection->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
}

void getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  const struct stat facts = attributes(inode);
  fuse_reply_attr(request, &facts, attributes_valid_s);
}

void setattr(fuse_req_t request, fuse_ino_t inode, struct stat*, int, fuse_file_info*) {
  getattr(request, inode, nullptr);
}

void open(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  file->keep_cache = 1;
  fuse_reply_open(request, file);
}

void read(fuse_req_t request, fuse_ino_t, std::size_t length, off_t at, fuse_file_info*) {
  const auto left = static_cast<std::size_t>(std::max<off_t>(0, file_size - at));
  fuse_reply_buf(request, zeros.data(), std::min({length, left, zeros.size()}));
}

void write(fuse_req_t request, fuse_ino_t, const char*, std::size_t length, off_t, fuse_file_info*) {
  fuse_reply_write(request, length);
}

void fsync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) { fuse_reply_err(request, 0); }

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops table{};
  table.init = init;
  table.getattr = getattr;
  table.setattr = setattr;
  table.open = open;
  table.read = read;
  table.write = write;
  table.fsync = fsync;
  return table;
}

int serve(const char* mountpoint) {
  char name[] = "discard_fs";
  char* words[] = {name, nullptr};
  fuse_args arguments = {1, words, 0};
  const fuse_lowlevel_ops table = operations();
  fuse_session* const session = fuse_session_new(&arguments, &table, sizeof(table), nullptr);
  if (session == nullptr) return EXIT_FAILURE;
  int status = EXIT_FAILURE;
  if (fuse_set_signal_handlers(session) == 0) {
    if (fuse_session_mount(session, mountpoint) == 0) {
      status = fuse_session_loop(session) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
      fuse_session_unmount(session);
    }
    fuse_remove_signal_handlers(session);
  }
  fuse_session_destroy(session);
  return status;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3 || (file_size = std::atoll(words[1])) <= 0) {
    std::fputs("usage: discard_fs SIZE FILE\n", stderr);
    return 2;
  }
  return serve(words[2]);
}
