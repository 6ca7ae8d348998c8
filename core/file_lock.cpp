// QEMU's protocol. Byte 100 + i, read-locked, says "I use permission i"; byte 200 + i says "I let nobody else
// use it". Whoever comes sets its own bytes first and looks at the others' afterwards: of two that come at
// once at least one sees the other, and of several maybe each another one: so who is refused gives its own bytes
// up and comes again, at a moment of its own. Nobody ever takes a write lock; asking whether one could be had
// tells whether somebody is there.
#include "core/file_lock.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <random>
#include <span>
#include <thread>

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

bool hold(int descriptor, off_t at, const std::string& path) {
  struct flock request = one_byte(F_RDLCK, at);
  if (::fcntl(descriptor, F_OFD_SETLK, &request) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  fail_errno(errno, path + ": cannot lock the image");
}

bool is_free(int descriptor, off_t at, const std::string& path) {
  struct flock request = one_byte(F_WRLCK, at);
  if (::fcntl(descriptor, F_OFD_GETLK, &request) != 0) fail_errno(errno, path + ": cannot lock the image");
  return request.l_type == F_UNLCK;
}

bool try_to_lock(int descriptor, Access access, const std::string& path) {
  const std::span<const Permission> used =
      access == Access::read_write ? std::span<const Permission>(used_by_writer) : used_by_reader;
  bool alone = true;
  for (const Permission permission : used) alone = alone && hold(descriptor, used_base + permission, path);
  for (const Permission permission : never_shared) alone = alone && hold(descriptor, unshared_base + permission, path);

  for (const Permission permission : used) alone = alone && is_free(descriptor, unshared_base + permission, path);
  for (const Permission permission : never_shared) alone = alone && is_free(descriptor, used_base + permission, path);
  return alone;
}

void give_up(int descriptor) {
  struct flock request = one_byte(F_UNLCK, first_byte);
  request.l_len = last_byte + 1 - first_byte;
  ::fcntl(descriptor, F_OFD_SETLK, &request);
}

}  // namespace

void lock_image(int descriptor, Access access, const std::string& path) {
  constexpr int attempts = 10;
  std::minstd_rand random(std::random_device{}());
  std::uniform_int_distribution<int> milliseconds(5, 45);
  for (int attempt = 1; !try_to_lock(descriptor, access, path); ++attempt) {
    if (attempt == attempts) refuse(descriptor, path);
    give_up(descriptor);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds(random)));
  }
}

}  // namespace core
