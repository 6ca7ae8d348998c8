// From one set of tables to another by a single sector: what the disk is, which snapshots there are, and every refcount
// are written anew beside the old tables, and then the header names the new ones.
//
// A power cut leaves the image as it was or as it shall be, sound either way: refcounts and COPIED flags that are
// changed one by one contradict each other in between.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qcow2/format/snapshot_table.h"
#include "qcow2/offline/image_layout.h"
#include "qcow2/offline/image_writer.h"

namespace qcow2 {

/// What the image shall be. Clusters that nothing in here leads to are free afterwards.
struct MetadataTarget {
  bool mends = false;                    ///< the image may be damaged: refcounts and flags are put right
  bool keeps_content = true;             ///< of the disk: bitmaps of what changed stay true
  std::uint64_t disk_size = 0;           ///< bytes
  std::vector<std::uint64_t> active_l1;  ///< offsets of L2 tables; 0 for none
  std::vector<Snapshot> snapshots;    ///< with L1 tables where they say, but for the last where `new_l1` is not empty
  std::vector<std::uint64_t> new_l1;  ///< that of the last snapshot, to be written
};

/// The L1 table in `file`, without its flags. Throws corrupt_image for what is no table.
std::vector<std::uint64_t> read_l1(const ReadOnlyFile& file, const Geometry& geometry, HostOffset at,
                                   std::uint64_t entries);

/// What changes nothing.
MetadataTarget as_it_is(const ReadOnlyFile& file, const ImageLayout& layout);

/// `file` is what `writer` writes to. The image must be sound, unless the target mends it: leaks are no harm, and end.
/// What leads to no place in the file is never mended: data may be there no more, but no program should decide that.
/// Errors   Throws core::Error that names the file: corrupt_image for an image that is not sound, unsupported_feature
///          for one that cannot be changed so, bad_argument where a refcount has no room for another reference; then
///          nothing that anybody refers to was changed.
void switch_metadata(const ReadOnlyFile& file, ImageWriter& writer, const ImageLayout& layout,
                     const MetadataTarget& target);

}  // namespace qcow2
