// The front door: a qcow2 image in a block file, served as a raw disk.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/block_file.h"
#include "core/engine.h"
#include "core/guest_disk.h"
#include "qcow2/codec/codec.h"
#include "qcow2/format/header.h"

namespace qcow2 {

using core::Cleaning;

struct ImageOptions {
  bool read_only = false;
  int level = level_default;             ///< level_min (fastest) to level_max (smallest)
  Window window = Window::narrow;        ///< of deflate streams written
  std::uint64_t cache_size = 144 << 20;  ///< bytes for dirty, compressed and decoded clusters together
  std::uint64_t tables_size = 16 << 20;  ///< bytes for parts of tables, half of them L2 tables, half refcounts
  unsigned commit_interval_ms = 5000;    ///< dirty data older than this is made durable in the background
  bool discard = true;                   ///< gives the host back what nobody uses, while the image is open too
  Cleaning clean = Cleaning::idle;
  std::uint64_t clean_from = 1 << 20;  ///< bytes wasted in half-used blocks: fewer are not worth it
  std::string name = "image";          ///< what messages call the image: its path
  std::string snapshot;                ///< id or name: the disk as it was then, read-only; empty: as it is now
  /// Opens the disk that the image was derived from, or throws why that must not be. Images that have one are refused
  /// where there is no such function.
  std::function<core::Awaitable<std::unique_ptr<core::GuestDisk>>(BackingReference)> open_backing;
  /// The same for the external data file of the name: writable, unless the image is opened read-only.
  std::function<std::unique_ptr<core::BlockFile>(const std::string&)> open_data_file;
};

/// Opens the image in `file`. Throws core::Error with one line that names the image and says what is wrong:
/// unsupported_feature, corrupt_image or the device's errno. Nothing is written to an image that is refused.
/// `engine` and `file` must outlive the disk; close() must be awaited before its destruction.
core::Awaitable<std::unique_ptr<core::GuestDisk>> open_image(core::Engine& engine, core::BlockFile& file,
                                                             ImageOptions options);

}  // namespace qcow2
