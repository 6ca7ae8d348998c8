#include "fuse/compacted_size.h"

#include <array>
#include <cstdio>
#include <string>

#include "fuse/standard_streams.h"

namespace fuse {
namespace {

std::string in_mib(std::uint64_t bytes) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text.data();
}

std::string change(std::uint64_t before, std::uint64_t after) { return in_mib(before) + " -> " + in_mib(after); }

}  // namespace

void say_sizes(const ImageSize& before, const ImageSize& after) {
  std::string text = "allocated " + change(before.allocated, after.allocated);
  if (before.length && after.length) text += ", length " + change(*before.length, *after.length);
  print(text + "\n");
}

}  // namespace fuse
