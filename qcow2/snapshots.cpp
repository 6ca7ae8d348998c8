#include "qcow2/snapshots.h"

#include <algorithm>

#include "core/error.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t first_read_bytes = 64 << 10;

using core::Errc;
using core::fail;

std::string names_of(const std::vector<Snapshot>& snapshots) {
  std::string list;
  for (const Snapshot& snapshot : snapshots) {
    list += (list.empty() ? "" : ", ") + snapshot.id + (snapshot.name.empty() ? "" : " (" + snapshot.name + ")");
  }
  return list;
}

}  // namespace

// How long the table is shows only in its entries.
core::Awaitable<std::vector<Snapshot>> read_snapshots(core::BlockFile& file, const Header& header, std::string name) {
  if (header.snapshots == 0) co_return std::vector<Snapshot>();
  for (std::uint64_t length = first_read_bytes;; length *= 2) {  // a table without an end is refused when parsed
    core::Buffer bytes(length);
    co_await file.read_at(header.snapshot_table, bytes.span());  // beyond the end of the file are zeros
    std::optional<SnapshotTable> table = parse_snapshot_table(bytes.span(), header.snapshots, name);
    if (table) co_return std::move(table->snapshots);
  }
}

Header header_at_snapshot(Header header, const std::vector<Snapshot>& snapshots, const std::string& id_or_name,
                          const std::string& name) {
  const Snapshot* const snapshot = find_snapshot(snapshots, id_or_name);
  if (snapshot == nullptr) {
    fail(Errc::bad_argument, name + ": there is no snapshot " + id_or_name + ", or more than one of that name; " +
                                 (snapshots.empty() ? "the image has none" : "there are " + names_of(snapshots)));
  }
  header.l1_table = snapshot->l1_table;
  header.l1_entries = snapshot->l1_entries;
  header.size = snapshot->disk_size.value_or(header.size);
  const Geometry& geometry = header.geometry;
  const bool possible = geometry.is_cluster_aligned(header.l1_table) && header.l1_table.value <= host_offset_max &&
                        header.l1_entries <= l1_table_bytes_max / 8 && header.size <= disk_size_max &&
                        header.l1_entries >= geometry.l1_entries(header.size);
  if (!possible) fail(Errc::corrupt_image, name + ": the L1 table of snapshot " + id_or_name + " cannot be one");
  return header;
}

}  // namespace qcow2
