// A block file for threads that may wait: those that are not the engine's strand.
#pragma once

#include "core/block_file.h"
#include "core/engine.h"

namespace core {

/// Each method has its work done on the engine, which must be running, and returns when that is done. Units, ownership
/// and errors are those of BlockFile. It borrows both.
/// Threads    Any number at once, but never the strand, which would wait for itself.
class BlockingFile {
 public:
  BlockingFile(Engine& engine, BlockFile& file) : engine_(engine), file_(file) {}

  std::uint64_t size() const;
  void read_at(FileOffset at, MutableBytes target) const;
  void write_at(FileOffset at, Bytes source) const;
  void barrier() const;
  bool punch(FileOffset at, std::uint64_t length) const;

 private:
  Engine& engine_;
  BlockFile& file_;
};

}  // namespace core
