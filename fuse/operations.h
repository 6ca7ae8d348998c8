// The kernel's requests, as libfuse hands them over: answers the cheap ones at once and starts the others.
#pragma once

#include <string_view>
#include <vector>

#include "core/engine.h"
#include "core/guest_disk.h"
#include "fuse/activity.h"
#include "fuse/attributes.h"
#include "fuse/disk_operations.h"
#include "fuse/libfuse.h"
#include "fuse/receive_buffer.h"
#include "fuse/requests.h"
#include "fuse/tree.h"

struct iovec;

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
  /// To be called with each answer before it is written. The first is that to the kernel's greeting: it gets a flag
  /// that libfuse 3.14 does not know.
  void amend_greeting(iovec* pieces, int count);
  Requests& requests() { return requests_; }
  const Activity& activity() const { return activity_; }

 private:
  friend struct Trampolines;

  core::GuestDisk& disk_;
  Tree& tree_;
  ReceiveBuffer& received_;
  int image_descriptor_;
  Statistics statistics_;
  Attributes attributes_;
  std::vector<DiskOperations> files_;  // as the tree has them
  Requests requests_;
  Activity activity_;
  bool initialised_ = false;
  bool greeted_ = false;
  bool drops_privileges_ = false;  ///< as the kernel was told, which then need not ask before each write
};

}  // namespace fuse
