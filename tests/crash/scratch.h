// Short-lived files in memory, for programs that want one.
#pragma once

#include <string>

#include "tests/crash/simulated_disk.h"

namespace crash {

/// A path of this process alone, gone with the object. No file is made.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& name);
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile();
  const std::string& path() const { return path_; }
  Image read() const;
  void write(core::Bytes bytes) const;

 private:
  std::string path_;
};

}  // namespace crash
