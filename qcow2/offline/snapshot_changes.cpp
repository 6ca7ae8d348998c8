#include "qcow2/offline/snapshot_changes.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "qcow2/offline/metadata_switch.h"
#include "qcow2/offline/snapshot_table.h"

namespace qcow2 {
namespace {

using core::Errc;
using core::fail;

constexpr std::size_t snapshots_max = 65536;
constexpr std::size_t name_bytes_max = 65535;

const Snapshot& named(const ReadOnlyFile& file, const std::vector<Snapshot>& snapshots, const std::string& id_or_name) {
  const Snapshot* const found = find_snapshot(snapshots, id_or_name);
  if (found == nullptr) {
    fail(Errc::bad_argument, file.path() + ": there is no snapshot " + id_or_name + ", or more than one of that name");
  }
  return *found;
}

// Numbers, each one more than the largest, as QEMU counts.
std::string next_id(const std::vector<Snapshot>& snapshots) {
  unsigned long largest = 0;
  for (const Snapshot& snapshot : snapshots)
    largest = std::max(largest, std::strtoul(snapshot.id.c_str(), nullptr, 10));
  return std::to_string(largest + 1);
}

// A snapshot of the tables alone would show whatever the data file holds by then.
ImageLayout layout_to_change(const ReadOnlyFile& file) {
  ImageLayout layout = read_layout(file);
  if (layout.external_data()) {
    fail(Errc::unsupported_feature, file.path() + ": an image with an external data file has no snapshots");
  }
  return layout;
}

}  // namespace

void create_snapshot(const ReadOnlyFile& file, ImageWriter& writer, const std::string& name, SnapshotTime now) {
  const ImageLayout layout = layout_to_change(file);
  MetadataTarget target = as_it_is(file, layout);
  const auto clashes = [&](const Snapshot& snapshot) { return snapshot.id == name || snapshot.name == name; };
  if (std::any_of(target.snapshots.begin(), target.snapshots.end(), clashes)) {
    fail(Errc::bad_argument, file.path() + ": there is a snapshot " + name + " already");
  }
  if (name.empty() || name.size() > name_bytes_max) {
    fail(Errc::bad_argument, file.path() + ": a snapshot's name has 1 to 65535 bytes");
  }
  if (target.snapshots.size() >= snapshots_max) fail(Errc::bad_argument, file.path() + ": it has 65536 snapshots");
  Snapshot taken;
  taken.l1_entries = static_cast<std::uint32_t>(target.active_l1.size());
  taken.id = next_id(target.snapshots);
  taken.name = name;
  taken.seconds = now.seconds;
  taken.nanoseconds = now.nanoseconds;
  taken.extra_data = encode_extra_data(layout.disk_size());
  target.snapshots.push_back(std::move(taken));
  target.new_l1 = target.active_l1;
  switch_metadata(file, writer, layout, target);
}

void delete_snapshot(const ReadOnlyFile& file, ImageWriter& writer, const std::string& id_or_name) {
  const ImageLayout layout = layout_to_change(file);
  MetadataTarget target = as_it_is(file, layout);
  const std::string id = named(file, target.snapshots, id_or_name).id;
  const auto same = [&id](const Snapshot& snapshot) { return snapshot.id == id; };
  target.snapshots.erase(std::find_if(target.snapshots.begin(), target.snapshots.end(), same));
  switch_metadata(file, writer, layout, target);
}

void apply_snapshot(const ReadOnlyFile& file, ImageWriter& writer, const std::string& id_or_name) {
  const ImageLayout layout = layout_to_change(file);
  MetadataTarget target = as_it_is(file, layout);
  const Snapshot& snapshot = named(file, target.snapshots, id_or_name);
  target.keeps_content = false;
  target.disk_size = snapshot.disk_size.value_or(layout.header.size);
  target.active_l1 = read_l1(file, layout.geometry(), snapshot.l1_table, snapshot.l1_entries);
  if (target.disk_size > disk_size_max || target.active_l1.size() < layout.geometry().l1_entries(target.disk_size)) {
    fail(Errc::corrupt_image, file.path() + ": the L1 table of snapshot " + id_or_name + " is too small for its disk");
  }
  switch_metadata(file, writer, layout, target);
}

}  // namespace qcow2
