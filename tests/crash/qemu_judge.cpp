#include "tests/crash/qemu_judge.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/unique_fd.h"
#include "tests/crash/scratch.h"

namespace crash {
namespace {

int status_of(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

bool read_fully(int fd, std::uint64_t at, core::MutableBytes target) {
  while (!target.empty()) {
    const ssize_t got = ::pread(fd, target.data(), target.size(), static_cast<off_t>(at));
    if (got <= 0) return false;
    target = target.subspan(static_cast<std::size_t>(got));
    at += static_cast<std::uint64_t>(got);
  }
  return true;
}

std::uint64_t seek(int fd, std::uint64_t at, int what) {
  const off_t found = ::lseek(fd, static_cast<off_t>(at), what);
  return found < 0 ? ~0ull : static_cast<std::uint64_t>(found);
}

// Every byte of the raw file against the walker's; holes are not read.
std::string compare_raw(const std::string& path, core::Bytes image, const Walk& walk, FragmentDecoder& decoder) {
  const core::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return "the raw file cannot be read";
  const std::uint64_t size = seek(file.get(), 0, SEEK_END);
  if (size != walk.disk_size) return "qemu-img reads a disk of " + std::to_string(size) + " bytes";
  ImageWalker walker(decoder);
  core::Buffer here(walk.cluster_size);
  core::Buffer there(walk.cluster_size);
  const auto differs = [&](std::uint64_t index) {
    const std::uint64_t at = index * walk.cluster_size;
    const std::uint64_t length = std::min(walk.cluster_size, size - at);
    return !read_fully(file.get(), at, there.span().first(length)) || !walker.read_cluster(image, index, here.span()) ||
           std::memcmp(here.data(), there.data(), length) != 0;
  };
  for (const GuestClusterContent& cluster : walk.content) {
    if (cluster.index * walk.cluster_size >= size || !differs(cluster.index)) continue;
    return "qemu-img reads guest cluster " + std::to_string(cluster.index) + " differently";
  }
  for (std::uint64_t at = seek(file.get(), 0, SEEK_DATA); at < size; at = seek(file.get(), at, SEEK_DATA)) {
    if (differs(at / walk.cluster_size)) return "qemu-img reads data at " + std::to_string(at);
    at = (at / walk.cluster_size + 1) * walk.cluster_size;
  }
  return {};
}

}  // namespace

int qemu_check(const std::string& path) {
  return status_of("qemu-img check -q -f qcow2 '" + path + "' >/dev/null 2>&1");
}

std::string ask_qemu(core::Bytes image, const Walk& walk, FragmentDecoder& decoder) {
  const ScratchFile file("state");
  const ScratchFile raw("raw");
  file.write(image);
  const int status = qemu_check(file.path());
  if (status != 0 && status != 3) return "qemu-img check says " + std::to_string(status);
  if ((status == 3) != (walk.leaks != 0)) return "qemu-img check and the walker disagree about leaks";
  const int converted =
      status_of("qemu-img convert -f qcow2 -O raw '" + file.path() + "' '" + raw.path() + "' 2>/dev/null");
  if (converted != 0) return "qemu-img convert says " + std::to_string(converted);
  return compare_raw(raw.path(), image, walk, decoder);
}

}  // namespace crash
