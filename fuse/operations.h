// The kernel's requests, as libfuse hands them over: answers the cheap ones at once and starts the others.
#pragma once

#include <string_view>
#include <vector>

#include "core/engine.h"
#include "core/guest_disk.h"
#include "fuse/disk_operations.h"
#include "fuse/libfuse.h"
#include "fuse/receive_buffer.h"
#include "fuse/requests.h"
#include "fuse/tree.h"

namespace fuse {

/// Threads    The engine's.
/// Lifetime   Must outlive the session that was given it; requests().finished() must be awaited before
/// destruction.
class Operations {
 public:
  /// `disk` is what all of the tree's files are, or are parts of; `image_descriptor` is of a file on the file system
  /// whose free space statfs tells.
  Operations(core::Engine& engine, core::GuestDisk& disk, Tree& tree, ReceiveBuffer& received, int image_descriptor);

  /// What libfuse calls, with this object as its user data.
  static const fuse_lowlevel_ops& table();

  /// The kernel has said hello and been answered.
  bool initialised() const { return initialised_; }
  Requests& requests() { return requests_; }

 private:
  friend struct Trampolines;

  core::GuestDisk& disk_;
  Tree& tree_;
  ReceiveBuffer& received_;
  int image_descriptor_;
  std::vector<DiskOperations> files_;  // as the tree has them
  Requests requests_;
  bool initialised_ = false;
};

}  // namespace fuse
