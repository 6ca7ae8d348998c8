// Which files an image may show through to. An image says which file it was derived from, and images come from
// strangers: it must not lead to whatever the reader of the disk can open.
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

struct BackingPolicy {
  bool allowed = true;
  /// Besides the directory of the image that names the file: it must lie in one of them, or below.
  std::vector<std::string> directories;
  std::optional<ImageFormat> unnamed_format;  ///< where an image does not say; without it that is refused, not guessed
  core::DirectIo direct = core::DirectIo::automatic;
};

/// "nbd://...", "json:{...}": a colon before any slash is a protocol to QEMU, whatever file has that name.
bool names_protocol(const std::string& name);

/// A file that may be opened as a backing file.
struct FoundBacking {
  std::string path;  ///< for messages, and for what is relative to it
  ImageFormat format = ImageFormat::raw;
  core::UniqueFd descriptor;  ///< neither for reading nor for writing

  /// What to open, as long as this object lives: what was looked at, and no other.
  std::string same_file() const { return "/proc/self/fd/" + std::to_string(descriptor.get()); }
};

/// Follows one chain of images down.
/// Errors     Throws core::Error with one line that names the image and the file, and the option that would allow it.
class BackingSearch {
 public:
  /// `image` is the path of the image on top, `descriptor` it opened.
  BackingSearch(const std::string& image, int descriptor, BackingPolicy policy);

  /// The file that the image at `image` refers to, which the chain has not had before.
  FoundBacking find(const std::string& image, const BackingReference& reference);

 private:
  using Identity = std::pair<std::uint64_t, std::uint64_t>;  // of a file: device and inode

  ImageFormat format_of(const std::string& image, const BackingReference& reference) const;
  void require_allowed_place(const std::string& image, const std::string& path, const std::string& real_path) const;
  void require_new(const std::string& image, const std::string& path, int descriptor);

  BackingPolicy policy_;
  std::set<Identity> chain_;
};

}  // namespace qcow2
