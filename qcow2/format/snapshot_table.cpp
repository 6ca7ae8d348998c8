#include "qcow2/format/snapshot_table.h"

#include <algorithm>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/error.h"

namespace qcow2 {
namespace {

using core::load_big_endian;

constexpr std::size_t fixed_length = 40;
constexpr std::uint32_t extra_bytes_max = 1024;  // QEMU refuses more

constexpr std::uint64_t not_counted = ~0ull;  // instructions

std::string text(core::Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

void read_fixed(core::Bytes bytes, Snapshot& snapshot) {
  snapshot.l1_table = HostOffset{load_big_endian<std::uint64_t>(bytes, 0)};
  snapshot.l1_entries = load_big_endian<std::uint32_t>(bytes, 8);
  snapshot.seconds = load_big_endian<std::uint32_t>(bytes, 16);
  snapshot.nanoseconds = load_big_endian<std::uint32_t>(bytes, 20);
  snapshot.guest_clock = load_big_endian<std::uint64_t>(bytes, 24);
  snapshot.vm_state_size = load_big_endian<std::uint32_t>(bytes, 32);
}

void read_extra(core::Bytes extra, Snapshot& snapshot) {
  if (extra.size() >= 8) snapshot.vm_state_size = load_big_endian<std::uint64_t>(extra, 0);
  if (extra.size() >= 16) snapshot.disk_size = load_big_endian<std::uint64_t>(extra, 8);
  const std::uint64_t count = extra.size() >= 24 ? load_big_endian<std::uint64_t>(extra, 16) : not_counted;
  if (count != not_counted) snapshot.instruction_count = count;
  snapshot.extra_data.assign(extra.begin(), extra.end());
}

}  // namespace

std::optional<SnapshotTable> parse_snapshot_table(core::Bytes bytes, std::uint32_t count, const std::string& name) {
  SnapshotTable table;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t start = core::align_up(table.length, 8);
    bytes = bytes.subspan(std::min<std::uint64_t>(start - table.length, bytes.size()));
    if (bytes.size() < fixed_length) return std::nullopt;
    const std::uint64_t id_length = load_big_endian<std::uint16_t>(bytes, 12);
    const std::uint64_t name_length = load_big_endian<std::uint16_t>(bytes, 14);
    const std::uint64_t extra_length = load_big_endian<std::uint32_t>(bytes, 36);
    if (extra_length > extra_bytes_max) {
      core::fail(core::Errc::corrupt_image,
                 name + ": entry " + std::to_string(i) + " of the snapshot table has too much extra data");
    }
    const std::uint64_t length = fixed_length + extra_length + id_length + name_length;
    table.length = start + length;
    if (table.length > snapshot_table_bytes_max) {
      core::fail(core::Errc::corrupt_image, name + ": the snapshot table is too large");
    }
    if (bytes.size() < length) return std::nullopt;
    Snapshot snapshot;
    read_fixed(bytes, snapshot);
    read_extra(bytes.subspan(fixed_length, extra_length), snapshot);
    snapshot.id = text(bytes.subspan(fixed_length + extra_length, id_length));
    snapshot.name = text(bytes.subspan(fixed_length + extra_length + id_length, name_length));
    table.snapshots.push_back(std::move(snapshot));
    bytes = bytes.subspan(length);
  }
  return table;
}

std::vector<std::byte> encode_extra_data(std::uint64_t disk_size) {
  std::vector<std::byte> extra(24);
  core::store_big_endian(core::MutableBytes(extra), 8, disk_size);
  core::store_big_endian(core::MutableBytes(extra), 16, not_counted);
  return extra;
}

std::vector<std::byte> encode_snapshot_table(const std::vector<Snapshot>& snapshots) {
  std::vector<std::byte> table;
  const auto append = [&table](const std::string& text) {
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    table.insert(table.end(), bytes, bytes + text.size());
  };
  for (const Snapshot& snapshot : snapshots) {
    table.resize(core::align_up(table.size(), 8));
    const std::size_t at = table.size();
    table.resize(at + fixed_length);
    const core::MutableBytes entry(table);
    const bool fits = snapshot.vm_state_size <= 0xffffffff;  // the whole of it is in the extra data
    core::store_big_endian(entry, at, snapshot.l1_table.value);
    core::store_big_endian(entry, at + 8, snapshot.l1_entries);
    core::store_big_endian(entry, at + 12, static_cast<std::uint16_t>(snapshot.id.size()));
    core::store_big_endian(entry, at + 14, static_cast<std::uint16_t>(snapshot.name.size()));
    core::store_big_endian(entry, at + 16, snapshot.seconds);
    core::store_big_endian(entry, at + 20, snapshot.nanoseconds);
    core::store_big_endian(entry, at + 24, snapshot.guest_clock);
    core::store_big_endian(entry, at + 32, static_cast<std::uint32_t>(fits ? snapshot.vm_state_size : 0));
    core::store_big_endian(entry, at + 36, static_cast<std::uint32_t>(snapshot.extra_data.size()));
    table.insert(table.end(), snapshot.extra_data.begin(), snapshot.extra_data.end());
    append(snapshot.id);
    append(snapshot.name);
  }
  return table;
}

const Snapshot* find_snapshot(const std::vector<Snapshot>& snapshots, const std::string& id_or_name) {
  const auto has_id = [&](const Snapshot& snapshot) { return snapshot.id == id_or_name; };
  const auto has_name = [&](const Snapshot& snapshot) { return snapshot.name == id_or_name; };
  const auto by_id = std::find_if(snapshots.begin(), snapshots.end(), has_id);
  if (by_id != snapshots.end()) return &*by_id;
  if (std::count_if(snapshots.begin(), snapshots.end(), has_name) != 1) return nullptr;
  return &*std::find_if(snapshots.begin(), snapshots.end(), has_name);
}

}  // namespace qcow2
