// The table of internal snapshots of an image that nobody serves.
#pragma once

#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

/// Throws corrupt_image for a table longer than QEMU takes.
SnapshotTable read_snapshot_table(const ReadOnlyFile& file, const Header& header);

}  // namespace qcow2
