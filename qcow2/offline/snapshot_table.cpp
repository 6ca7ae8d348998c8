#include "qcow2/offline/snapshot_table.h"

namespace qcow2 {
namespace {

constexpr std::size_t first_read_bytes = 64 << 10;

}  // namespace

// How long the table is shows only in its entries.
SnapshotTable read_snapshot_table(const ReadOnlyFile& file, const Header& header) {
  for (std::size_t length = first_read_bytes;; length *= 2) {  // a table without an end is refused when parsed
    const std::vector<std::byte> bytes = file.read_or_zeros(header.snapshot_table, length);
    std::optional<SnapshotTable> table = parse_snapshot_table(bytes, header.snapshots, file.path());
    if (table) return std::move(*table);
  }
}

}  // namespace qcow2
