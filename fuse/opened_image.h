// The file that holds the image of a mount, open, wherever it lies.
#pragma once

#include <memory>
#include <string>

#include "core/block_file.h"
#include "core/engine.h"
#include "fuse/options.h"

namespace fuse {

struct OpenedImage {
  std::unique_ptr<core::BlockFile> file;
  std::string name;     ///< its path, or that of its export, which may be empty
  int descriptor = -1;  ///< that `file` has open; none where it lies on a server
};

/// On a server, not in a file or on a device of this machine.
inline bool is_remote(const OpenedImage& image) { return image.descriptor < 0; }

/// Opens options.image: a file or a block device, which is locked, or a server's export, which nobody can lock.
/// Errors   Throws core::Error with one line that says what to do.
/// Threads  The engine's strand, which it holds up.
OpenedImage open_image_file(core::Engine& engine, const MountOptions& options, core::Access access);

}  // namespace fuse
