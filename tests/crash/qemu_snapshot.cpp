#include "tests/crash/qemu_snapshot.h"

#include <cstdlib>
#include <string>

#include "tests/crash/scratch.h"

namespace crash {

std::optional<Image> with_snapshot(core::Bytes image) {
  const ScratchFile file("snapshot");
  file.write(image);
  const std::string command = "qemu-img snapshot -q -c taken '" + file.path() + "' >/dev/null 2>&1";
  if (std::system(command.c_str()) != 0) return std::nullopt;
  return file.read();
}

}  // namespace crash
