// Which files an image may show through to, and opening them. An image says which file it was derived from, and images
// come from strangers: it must not lead to whatever the reader of the disk can open.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/direct_file.h"
#include "core/guest_disk.h"
#include "qcow2/image.h"

namespace qcow2 {

enum class ImageFormat { raw, qcow2 };

struct BackingPolicy {
  bool allowed = true;
  /// Besides the directory of the image that names the file: it must lie in one of them, or below.
  std::vector<std::string> directories;
  std::optional<ImageFormat> unnamed_format;  ///< where an image does not say; without it that is refused, not guessed
  core::DirectIo direct = core::DirectIo::automatic;
};

/// "nbd://...", "json:{...}": a colon before any slash is a protocol to QEMU, whatever file has that name.
bool names_protocol(const std::string& name);

/// Opens chains of backing files, read-only and locked against writers, and owns the files: it must outlive the disks.
/// Errors     Throws core::Error with one line that names the image and the file, and the option that would allow it.
/// Threads    The engine's strand.
class BackingFiles {
 public:
  /// `image` is the path of the image on top, `descriptor` it opened.
  BackingFiles(core::Engine& engine, const std::string& image, int descriptor, BackingPolicy policy);

  /// For the image at `path`: what ImageOptions::open_backing takes. `cache_size` is for what lies below, together.
  std::function<core::Awaitable<std::unique_ptr<core::GuestDisk>>(BackingReference)> opener(const std::string& path,
                                                                                            std::uint64_t cache_size);

 private:
  using Identity = std::pair<std::uint64_t, std::uint64_t>;  // of a file: device and inode

  core::Awaitable<std::unique_ptr<core::GuestDisk>> open(std::string image, BackingReference reference,
                                                         std::uint64_t cache_size);
  ImageFormat format_of(const std::string& image, const BackingReference& reference) const;
  std::unique_ptr<core::DirectFile> open_file(const std::string& image, const std::string& path);
  void require_allowed_place(const std::string& image, const std::string& path, const std::string& real_path) const;
  void require_new(const std::string& image, const std::string& path, int descriptor);

  core::Engine& engine_;
  BackingPolicy policy_;
  std::set<Identity> chain_;
  std::vector<std::unique_ptr<core::DirectFile>> files_;
};

}  // namespace qcow2
