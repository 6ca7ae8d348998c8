// Taking, deleting and applying internal snapshots of an image that is not mounted.
#pragma once

#include <cstdint>
#include <string>

#include "qcow2/offline/image_writer.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

/// When a snapshot was taken.
struct SnapshotTime {
  std::uint32_t seconds = 0;  ///< since 1970
  std::uint32_t nanoseconds = 0;
};

// `file` is what `writer` writes to. All throw what switch_metadata() throws, and bad_argument where the name does not
// fit: there is one of that name already, there is none, or several have it.

void create_snapshot(const ReadOnlyFile& file, ImageWriter& writer, const std::string& name, SnapshotTime now);
void delete_snapshot(const ReadOnlyFile& file, ImageWriter& writer, const std::string& id_or_name);
/// The disk becomes what it was then, its size included; the snapshot stays.
void apply_snapshot(const ReadOnlyFile& file, ImageWriter& writer, const std::string& id_or_name);

}  // namespace qcow2
