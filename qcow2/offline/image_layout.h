// Where an image says that its parts are: the header, its extensions, and what follows from them.
#pragma once

#include <optional>

#include "core/alignment.h"
#include "qcow2/format/header.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

/// The header extension for persistent bitmaps.
struct BitmapDirectory {
  std::uint32_t bitmaps = 0;
  HostExtent extent;
};

struct ImageLayout {
  Header header;
  std::optional<BitmapDirectory> bitmaps;  ///< where they are in use
  std::optional<HostExtent> luks_header;

  const Geometry& geometry() const { return header.geometry; }
  bool external_data() const { return geometry().external_data; }
  std::uint64_t disk_size() const { return core::align_down(header.size, sector_size); }  ///< as it is served
};

/// Reads it, also of images that no mount serves. Throws core::Error as parse_header() does, and corrupt_image for
/// extensions with which QEMU would not open the image: nobody can tell then what the clusters are for.
ImageLayout read_layout(const ReadOnlyFile& file);

}  // namespace qcow2
