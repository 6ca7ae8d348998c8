#include "tests/crash/scratch.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace crash {

ScratchFile::ScratchFile(const std::string& name) {
  const std::filesystem::path memory = "/dev/shm";
  const std::filesystem::path folder =
      ::access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
  path_ = (folder / ("qcowfs-crash-" + std::to_string(::getpid()) + "-" + name)).string();
  ::unlink(path_.c_str());
}

ScratchFile::~ScratchFile() { ::unlink(path_.c_str()); }

Image ScratchFile::read() const {
  std::ifstream stream(path_, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  Image bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

void ScratchFile::write(core::Bytes bytes) const {
  std::ofstream stream(path_, std::ios::binary | std::ios::trunc);
  stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!stream.flush()) throw std::runtime_error(path_ + ": cannot be written");
}

}  // namespace crash
