// The files that an image leads to, opened.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/direct_file.h"
#include "core/guest_disk.h"
#include "qcow2/image.h"
#include "qcow2/named_file_search.h"

namespace qcow2 {

/// Opens chains of backing files, read-only and locked against writers, and external data files, as their image is
/// opened. It must outlive the disks, and owns the files below them.
/// Errors     Throws core::Error as NamedFileSearch does.
/// Threads    The engine's strand.
class NamedFiles {
 public:
  /// `image` is the path of the image on top, `descriptor` it opened.
  NamedFiles(core::Engine& engine, const std::string& image, int descriptor, NamedFilePolicy policy)
      : engine_(engine), search_(image, descriptor, std::move(policy)) {}

  /// Has an image that will be opened so, and all below it, find its other files here. Its cache is shared with them.
  void serve(ImageOptions& options);

 private:
  core::Awaitable<std::unique_ptr<core::GuestDisk>> open(std::string image, BackingReference reference,
                                                         std::uint64_t cache_size);
  std::unique_ptr<core::DirectFile> open_file(const FoundFile& found, core::Access access);

  core::Engine& engine_;
  NamedFileSearch search_;
  std::vector<std::unique_ptr<core::DirectFile>> files_;
};

}  // namespace qcow2
