// Which files an image may lead to, and opening them. An image says which file it was derived from and which one has
// its data, and images come from strangers: it must not lead to whatever the reader of the disk can open.
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

struct NamedFilePolicy {
  bool backing = true;     ///< the disk may show through to the file that it was derived from
  bool data_file = false;  ///< its data may lie in a file of their own
  /// Besides the directory of the image that names the file: it must lie in one of them, or below.
  std::vector<std::string> directories;
  std::optional<ImageFormat> unnamed_format;  ///< where an image does not say; without it that is refused, not guessed
  core::DirectIo direct = core::DirectIo::automatic;
};

/// "nbd://...", "json:{...}": a colon before any slash is a protocol to QEMU, whatever file has that name.
bool names_protocol(const std::string& name);

/// Opens chains of backing files, read-only and locked against writers, and external data files, as their image is
/// opened. It must outlive the disks, and owns the files below them.
/// Errors     Throws core::Error with one line that names the image and the file, and the option that would allow it.
/// Threads    The engine's strand.
class NamedFiles {
 public:
  /// `image` is the path of the image on top, `descriptor` it opened.
  NamedFiles(core::Engine& engine, const std::string& image, int descriptor, NamedFilePolicy policy);

  /// Has an image that will be opened so, and all below it, find its other files here. Its cache is shared with them.
  void serve(ImageOptions& options);

 private:
  using Identity = std::pair<std::uint64_t, std::uint64_t>;  // of a file: device and inode

  core::Awaitable<std::unique_ptr<core::GuestDisk>> open(std::string image, BackingReference reference,
                                                         std::uint64_t cache_size);
  ImageFormat format_of(const std::string& image, const BackingReference& reference) const;
  std::unique_ptr<core::DirectFile> open_data(const std::string& image, const std::string& name, core::Access access);
  /// A file that an image names, and what it is to it, for what is said of it.
  struct Named {
    std::string image;
    std::string path;
    const char* role;
  };
  static std::string say(const Named& named);
  std::unique_ptr<core::DirectFile> open_file(const Named& named, core::Access access);
  void require_allowed_place(const Named& named, const std::string& real_path) const;
  void require_new(const Named& named, int descriptor);

  core::Engine& engine_;
  NamedFilePolicy policy_;
  std::set<Identity> chain_;
  std::vector<std::unique_ptr<core::DirectFile>> files_;
};

}  // namespace qcow2
