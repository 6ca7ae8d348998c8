// Which format an image is of, by how it starts.
#pragma once

#include "core/block_file.h"
#include "fuse/options.h"

namespace fuse {

/// Whether a file that starts so is taken for a qcow2 image.
bool starts_like_qcow2(core::Bytes head);

/// Raw is what is not qcow2. Throws core::Error where `file` cannot be read.
core::Awaitable<ImageFormat> detect_format(core::BlockFile& file);

}  // namespace fuse
