// The internal snapshots of an image: reading their table, and looking at the disk as one of them has it.
#pragma once

#include <string>
#include <vector>

#include "core/block_file.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"

namespace qcow2 {

/// Throws corrupt_image or the device's error.
core::Awaitable<std::vector<Snapshot>> read_snapshots(core::BlockFile& file, const Header& header, std::string name);

/// The header as it would be if the disk were what it was when the snapshot was taken. Throws bad_argument where the
/// image has no such snapshot, corrupt_image where its L1 table cannot be one.
Header header_at_snapshot(Header header, const std::vector<Snapshot>& snapshots, const std::string& id_or_name,
                          const std::string& name);

}  // namespace qcow2
