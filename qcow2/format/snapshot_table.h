// The table of internal snapshots: where the header says, one entry behind the other, each 8-aligned.
//
//   byte  0  L1 table offset      12  length of the id       28  nanoseconds of the guest's clock
//         8  L1 entries           14  length of the name     36  bytes of VM state (32 bits)
//        16  seconds, 20 nanoseconds since 1970              40  bytes of extra data, then: extra data, id, name
//
// Extra data: u64 bytes of VM state, u64 size of the disk, u64 instruction count; more may follow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

inline constexpr std::uint64_t snapshot_table_bytes_max = 64ull << 20;  ///< QEMU refuses longer ones

struct Snapshot {
  HostOffset l1_table;  ///< as stored: any value
  std::uint32_t l1_entries = 0;
  std::string id;    ///< unique within the image; a number, where QEMU made it
  std::string name;  ///< may be empty, and need not be unique
  std::uint32_t seconds = 0;
  std::uint32_t nanoseconds = 0;
  std::uint64_t guest_clock = 0;  ///< nanoseconds
  std::uint64_t vm_state_size = 0;
  std::vector<std::byte> extra_data;       ///< as stored; what of it is known stands below
  std::optional<std::uint64_t> disk_size;  ///< bytes; none in old images: then it is that of the disk now
  std::optional<std::uint64_t> instruction_count;
};

inline constexpr std::uint32_t snapshot_extra_data_v3_min = 16;  ///< VM state size and disk size

struct SnapshotTable {
  std::vector<Snapshot> snapshots;
  std::uint64_t length = 0;  ///< bytes that the entries take
};

/// The first `count` entries at the front of `bytes`; nothing where `bytes` ends before the last of them does. Throws
/// corrupt_image for what no writer may leave, and for a table longer than snapshot_table_bytes_max.
std::optional<SnapshotTable> parse_snapshot_table(core::Bytes bytes, std::uint32_t count, const std::string& name);

/// The bytes of a table. `extra_data` is stored as it is: what was read from it is not looked at.
std::vector<std::byte> encode_snapshot_table(const std::vector<Snapshot>& snapshots);
/// Extra data for a snapshot without VM state of a disk of so many bytes.
std::vector<std::byte> encode_extra_data(std::uint64_t disk_size);

/// By id, or else by name. Null where there is none, or where several have that name.
const Snapshot* find_snapshot(const std::vector<Snapshot>& snapshots, const std::string& id_or_name);

}  // namespace qcow2
