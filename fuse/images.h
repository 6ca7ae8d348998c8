// Images as disks, whatever their format: the one room of the copying verbs that knows what a format is.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/block_file.h"
#include "core/engine.h"
#include "core/guest_disk.h"
#include "fuse/options.h"
#include "fuse/verb_work.h"

namespace fuse {

/// A disk and the file below it.
struct OpenDisk {
  std::unique_ptr<core::BlockFile> file;  ///< nothing where the disk owns it; outlives the disk
  std::shared_ptr<const void> others;     ///< the files that it names; outlives the disk too
  std::unique_ptr<core::GuestDisk> disk;
};

/// An image that is only read, locked against writers while it is open.
/// Errors     Throws core::Error whose sentence names the image.
/// Threads    The engine's strand. close() must be awaited once before destruction.
class Source {
 public:
  Source(std::string path, ImageFormat format, OpenDisk open)
      : path_(std::move(path)), format_(format), open_(std::move(open)) {}

  const std::string& path() const { return path_; }
  ImageFormat format() const { return format_; }
  std::uint64_t size() const { return open_.disk->size(); }  ///< bytes of the disk, a multiple of 512
  /// See core::GuestDisk.
  core::Awaitable<void> read(core::DiskOffset at, core::MutableBytes target) {
    return naming(path_, open_.disk->read(at, target));
  }
  core::Awaitable<std::uint64_t> next_data(core::DiskOffset at) { return naming(path_, open_.disk->next_data(at)); }
  core::Awaitable<std::uint64_t> next_hole(core::DiskOffset at) { return naming(path_, open_.disk->next_hole(at)); }
  core::Awaitable<void> close() { return open_.disk->close(); }

 private:
  std::string path_;
  ImageFormat format_;
  OpenDisk open_;
};

/// Opens `path`, which may be the NBD URI of a qcow2 image, as what it starts with, or as `format`. `engine` must
/// outlive the source.
core::Awaitable<std::unique_ptr<Source>> open_source(core::Engine& engine, std::string path,
                                                     std::optional<ImageFormat> format, NamedFileOptions named,
                                                     std::string snapshot = {});

/// Creates the target's image, of `size` bytes, at `path`, which must not exist, and opens it for writing: the disk
/// must be closed. Should that fail, whatever `path` names is the caller's to remove.
core::Awaitable<OpenDisk> create_target_image(core::Engine& engine, const std::string& path,
                                              const ConvertOptions& options, std::uint64_t size);

/// Makes a sound image with an empty disk of `size` bytes at `path` where there is no such file. Of two that do so at
/// once one makes it. Throws core::Error.
void create_missing_image(const std::string& path, std::uint64_t size);

}  // namespace fuse
