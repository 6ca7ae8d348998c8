// Which files an image may lead to. An image says which file it was derived from and which one has its data, and images
// come from strangers: it must not lead to whatever the reader of the disk can open.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/direct_file.h"
#include "core/unique_fd.h"
#include "qcow2/format/header.h"

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

/// A file that may be opened.
struct FoundFile {
  std::string path;           ///< for messages, and for what is relative to it
  core::UniqueFd descriptor;  ///< neither for reading nor for writing

  /// What to open, as long as this object lives: what was looked at, and no other.
  std::string same_file() const { return "/proc/self/fd/" + std::to_string(descriptor.get()); }
};

struct FoundBacking : FoundFile {
  ImageFormat format = ImageFormat::raw;
};

/// Follows one chain of images, and their data files.
/// Errors     Throws core::Error with one line that names the image and the file, and the option that would allow it.
class NamedFileSearch {
 public:
  /// `image` is the path of the image on top, `descriptor` it opened.
  NamedFileSearch(const std::string& image, int descriptor, NamedFilePolicy policy);

  /// The file that the image at `image` was derived from, which the chain has not had before.
  FoundBacking find_backing_file(const std::string& image, const BackingReference& reference);
  /// The one that has its data, to be opened so.
  FoundFile find_data_file(const std::string& image, const std::string& name, core::Access access);

  core::DirectIo direct() const { return policy_.direct; }

 private:
  using Identity = std::pair<std::uint64_t, std::uint64_t>;  // of a file: device and inode
  /// A file that an image names, and what it is to it, for what is said of it.
  struct Named {
    std::string image;
    std::string path;
    const char* role;
  };

  static std::string say(const Named& named);
  ImageFormat format_of(const std::string& image, const BackingReference& reference) const;
  core::UniqueFd look_at(const Named& named);
  void require_allowed_place(const Named& named, const std::string& real_path) const;
  void require_new(const Named& named, int descriptor);

  NamedFilePolicy policy_;
  std::set<Identity> chain_;
};

}  // namespace qcow2
