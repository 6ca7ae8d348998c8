// The image file for changes to images that are not mounted: blocking writes, in an order that survives a power cut.
#pragma once

#include <memory>
#include <string>

#include "core/blocking_file.h"
#include "core/bytes.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Errors   Throws core::Error that names the path.
/// Threads  One at a time.
class ImageWriter {
 public:
  virtual ~ImageWriter() = default;
  virtual void write(HostOffset at, core::Bytes bytes) = 0;
  /// All that was written before survives a power cut when it returns.
  virtual void sync() = 0;
  /// Gives space back where the file system can; what was there reads as it did, or as zeros.
  virtual void punch(HostExtent extent) = 0;
};

/// Locks the image against everybody else until the writer is gone. Throws image_locked where somebody has it open.
std::unique_ptr<ImageWriter> open_image_writer(const std::string& path);

/// Writes to a file that its owner, from whom it is borrowed, has open and locked. Errors are those of the file.
std::unique_ptr<ImageWriter> writer_of(core::BlockingFile& file);

}  // namespace qcow2
