// QEMU's protocol. Byte 100 + i, read-locked, says "I use permission i"; byte 200 + i says "I let nobody else
// use it". Whoever comes sets its own bytes first and looks at the others' afterwards: of two that come at
// once at least one sees the other. Nobody ever takes a write lock; asking whether one could be had tells
// whether somebody is there.
#include "core/file_lock.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <span>

#include "core/error.h"
#include "core/lock_holders.h"

namespace core {
namespace {

enum Permission : off_t { consistent_read = 0, write = 1, resize = 3 };

constexpr off_t used_base = 100;
constexpr off_t unshared_base = 200;

constexpr std::array used_by_writer = {consistent_read, write, resize};
constexpr std::array used_by_reader = {consistent_read};
constexpr std::array never_shared = {write, resize};

struct flock one_byte(short type, off_t at) {
  struct flock request {};  // l_pid must be 0 for locks of open file descriptions
  request.l_type = type;
  request.l_whence = SEEK_SET;
  request.l_start = at;
  request.l_len = 1;
  return request;
}

constexpr off_t first_byte = used_base;
constexpr off_t last_byte = unshared_base + resize;

[[noreturn]] void refuse(int descriptor, const std::string& path) {
  std::string who;
  for (const LockHolder& holder : find_lock_holders(descriptor, first_byte, last_byte)) {
    who += (who.empty() ? "" : ", ") + holder.program + " (process " + std::to_string(holder.process) + ")";
  }
  fail(Errc::image_locked,
       path + ": the image is in use by " +
           (who.empty() ? "another program (QEMU or another qcowfs)" : who + "; close or unmount it there first"));
}

void hold(int descriptor, off_t at, const std::string& path) {
  struct flock request = one_byte(F_RDLCK, at);
  if (::fcntl(descriptor, F_OFD_SETLK, &request) == 0) return;
  if (errno == EAGAIN || errno == EACCES) refuse(descriptor, path);
  fail_errno(errno, path + ": cannot lock the image");
}

void expect_free(int descriptor, off_t at, const std::string& path) {
  struct flock request = one_byte(F_WRLCK, at);
  if (::fcntl(descriptor, F_OFD_GETLK, &request) != 0) fail_errno(errno, path + ": cannot lock the image");
  if (request.l_type != F_UNLCK) refuse(descriptor, path);
}

}  // namespace

void lock_image(int descriptor, Access access, const std::string& path) {
  const std::span<const Permission> used =
      access == Access::read_write ? std::span<const Permission>(used_by_writer) : used_by_reader;
  for (const Permission permission : used) hold(descriptor, used_base + permission, path);
  for (const Permission permission : never_shared) hold(descriptor, unshared_base + permission, path);

  for (const Permission permission : used) expect_free(descriptor, unshared_base + permission, path);
  for (const Permission permission : never_shared) expect_free(descriptor, used_base + permission, path);
}

}  // namespace core
