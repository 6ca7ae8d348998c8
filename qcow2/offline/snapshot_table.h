// The table of internal snapshots.
//
//   entry   0  L1 table offset    8  its entries   12  bytes of the id   14  of the name   16  times, VM state size
//          36  bytes of extra data   40  extra data, id, name, padding to 8
#pragma once

#include <string>
#include <vector>

#include "qcow2/format/header.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

struct Snapshot {
  HostOffset l1_table;  ///< as stored: any value
  std::uint32_t l1_entries = 0;
  std::uint32_t extra_data_size = 0;
  std::string id;
  std::string name;
};

inline constexpr std::uint32_t snapshot_extra_data_v3_min = 16;  ///< VM state size and disk size

struct SnapshotTable {
  std::vector<Snapshot> snapshots;
  std::uint64_t length = 0;  ///< bytes that the entries take
};

/// Throws corrupt_image for a table longer than QEMU takes.
SnapshotTable read_snapshot_table(const ReadOnlyFile& file, const Header& header);

}  // namespace qcow2
