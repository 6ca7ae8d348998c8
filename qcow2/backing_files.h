// The files that an image shows through to, as disks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/direct_file.h"
#include "core/guest_disk.h"
#include "qcow2/backing_search.h"
#include "qcow2/image.h"

namespace qcow2 {

/// Opens chains of backing files, read-only and locked against writers, and owns the files: it must outlive the disks.
/// Errors     Throws core::Error as BackingSearch does.
/// Threads    The engine's strand.
class BackingFiles {
 public:
  /// `image` is the path of the image on top, `descriptor` it opened.
  BackingFiles(core::Engine& engine, const std::string& image, int descriptor, BackingPolicy policy);

  /// For the image at `path`: what ImageOptions::open_backing takes. `cache_size` is for what lies below, together.
  std::function<core::Awaitable<std::unique_ptr<core::GuestDisk>>(BackingReference)> opener(const std::string& path,
                                                                                            std::uint64_t cache_size);

 private:
  core::Awaitable<std::unique_ptr<core::GuestDisk>> open(std::string image, BackingReference reference,
                                                         std::uint64_t cache_size);

  core::Engine& engine_;
  core::DirectIo direct_;
  BackingSearch search_;
  std::vector<std::unique_ptr<core::DirectFile>> files_;
};

}  // namespace qcow2
