#include "tests/fuzz/scratch_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

namespace fuzz {

std::string scratch_file(const test::Bytes& content) {
  static const int file = ::memfd_create("fuzzed", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (::ftruncate(file, 0) != 0) std::abort();
  if (::pwrite(file, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) std::abort();
  return path;
}

}  // namespace fuzz
