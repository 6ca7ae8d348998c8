// The table is read by libblkid, which reads files and not our disks: it is given a sparse copy of the disk in memory
// that holds the places where tables lie. What is parsed here decides only where these are, never what they mean.
#include "fuse/partition_table.h"

#include <blkid/blkid.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/endian/conversion.hpp>
#include <cerrno>
#include <cstring>
#include <memory>

#include "core/unique_fd.h"

namespace fuse {
namespace {

constexpr std::uint64_t libblkid_unit = 512;        // of positions and sizes, whatever the disk's sectors
constexpr std::uint64_t gpt_entries_max = 4 << 20;  // bytes
constexpr unsigned chain_max = 1000;                // of extended partitions: a chain may lead back to itself

std::uint32_t little_32(core::Bytes bytes, std::size_t at) {
  return boost::endian::load_little_u32(reinterpret_cast<const unsigned char*>(bytes.data() + at));
}
std::uint64_t little_64(core::Bytes bytes, std::size_t at) {
  return boost::endian::load_little_u64(reinterpret_cast<const unsigned char*>(bytes.data() + at));
}

// A file in memory of the disk's size, all holes but for what was copied.
class SparseCopy {
 public:
  explicit SparseCopy(core::GuestDisk& disk) : disk_(disk), file_(::memfd_create("partition table", MFD_CLOEXEC)) {
    if (!file_.valid() || ::ftruncate(file_.get(), static_cast<off_t>(disk.size())) != 0) {
      core::fail_errno(errno, "cannot copy the partition table into memory");
    }
  }

  int descriptor() const { return file_.get(); }
  std::uint64_t size() const { return disk_.size(); }

  /// Copies [at, at + length) as far as it lies on the disk, and returns it. What cannot be read stays a hole: there
  /// may be a second copy of it.
  core::Awaitable<core::Buffer> copy(std::uint64_t at, std::uint64_t length) {
    const std::uint64_t left = at < size() ? size() - at : 0;
    core::Buffer bytes(std::min(length, left));
    const core::MutableBytes target = bytes.span();
    if (target.empty()) co_return bytes;
    const core::DiskOffset from{at};
    try {
      co_await disk_.read(from, target);
    } catch (const core::Error& error) {
      spdlog::warn("looking for a partition table: {}", core::describe(error));
      co_return core::Buffer();
    }
    if (::pwrite(file_.get(), target.data(), target.size(), static_cast<off_t>(at)) !=
        static_cast<ssize_t>(target.size())) {
      core::fail_errno(errno, "cannot copy the partition table into memory");
    }
    co_return bytes;
  }

 private:
  core::GuestDisk& disk_;
  core::UniqueFd file_;
};

// Boot records, as far as it takes to find the next one.
constexpr std::size_t record_size = 512;
constexpr std::size_t entries_at = 446;
constexpr std::size_t entry_size = 16;
constexpr std::size_t entries = 4;

bool is_boot_record(core::Bytes record) {
  return record.size() == record_size && record[510] == std::byte{0x55} && record[511] == std::byte{0xaa};
}

// The first sector of the extended partition that an entry names, or nothing.
std::optional<std::uint64_t> extended_partition(core::Bytes record, std::size_t entry) {
  const core::Bytes bytes = record.subspan(entries_at + entry * entry_size, entry_size);
  const auto type = std::to_integer<unsigned>(bytes[4]);
  if (type != 0x05 && type != 0x0f && type != 0x85) return std::nullopt;
  return little_32(bytes, 8);
}

// Each record of the chain says where the next one is, counted from the extended partition's start.
core::Awaitable<void> copy_chain(SparseCopy& copy, std::uint64_t first) {
  std::uint64_t sector = first;
  for (unsigned link = 0; link < chain_max; ++link) {
    const std::uint64_t at = sector * libblkid_unit;
    const core::Buffer record = co_await copy.copy(at, record_size);
    if (!is_boot_record(record.span())) co_return;
    std::optional<std::uint64_t> next;
    for (std::size_t entry = 0; entry < entries && !next; ++entry) next = extended_partition(record.span(), entry);
    if (!next) co_return;
    sector = first + *next;
  }
}

core::Awaitable<void> copy_boot_records(SparseCopy& copy) {
  const core::Buffer record = co_await copy.copy(0, record_size);
  if (!is_boot_record(record.span())) co_return;
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::optional<std::uint64_t> first = extended_partition(record.span(), entry);
    if (first) co_await copy_chain(copy, *first);
  }
}

// The entries that the GPT header at `at`, if there is one, says it has.
core::Awaitable<void> copy_gpt_entries(SparseCopy& copy, std::uint64_t at, unsigned sector_size) {
  constexpr std::size_t header_size = 92;
  const core::Buffer header = co_await copy.copy(at, header_size);
  if (header.size() < header_size || std::memcmp(header.data(), "EFI PART", 8) != 0) co_return;
  const std::uint64_t first = little_64(header.span(), 72);
  const std::uint64_t length = std::uint64_t{little_32(header.span(), 80)} * little_32(header.span(), 84);
  if (first > copy.size() / sector_size) co_return;
  const std::uint64_t bounded = std::min(length, gpt_entries_max);
  const std::uint64_t start = first * sector_size;
  co_await copy.copy(start, bounded);
}

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<blkid_struct_probe, FreeProbe>;

std::vector<Partition> listed(blkid_partlist list, std::uint64_t disk_size) {
  std::vector<Partition> found;
  for (int index = 0; index < blkid_partlist_numof_partitions(list); ++index) {
    blkid_partition entry = blkid_partlist_get_partition(list, index);
    if (blkid_partition_is_extended(entry) != 0) continue;  // the logical ones lie in it
    Partition partition;
    partition.number = static_cast<unsigned>(blkid_partition_get_partno(entry));
    partition.start.value = static_cast<std::uint64_t>(blkid_partition_get_start(entry)) * libblkid_unit;
    partition.size = static_cast<std::uint64_t>(blkid_partition_get_size(entry)) * libblkid_unit;
    if (partition.start.value >= disk_size) {
      spdlog::warn("partition {} lies behind the end of the disk: left out", partition.number);
      continue;
    }
    if (partition.size > disk_size - partition.start.value) {
      spdlog::warn("partition {} ends behind the end of the disk: cut short", partition.number);
      partition.size = disk_size - partition.start.value;
    }
    found.push_back(partition);
  }
  const auto by_number = [](const Partition& left, const Partition& right) { return left.number < right.number; };
  std::sort(found.begin(), found.end(), by_number);
  return found;
}

// An MBR counts in the sectors of a disk that does not say how large they are: 512 bytes, as everywhere. A GPT says it
// by where it lies.
std::optional<std::vector<Partition>> probe(const SparseCopy& copy, unsigned sector_size) {
  char gpt[] = "gpt";
  char dos[] = "dos";
  std::array<char*, 3> types = {gpt, sector_size == libblkid_unit ? dos : nullptr, nullptr};
  const Probe probe(blkid_new_probe());
  if (!probe || blkid_probe_set_device(probe.get(), copy.descriptor(), 0, 0) != 0 ||
      blkid_probe_set_sectorsize(probe.get(), sector_size) != 0 || blkid_probe_enable_partitions(probe.get(), 1) != 0 ||
      blkid_probe_filter_partitions_type(probe.get(), BLKID_FLTR_ONLYIN, types.data()) != 0) {
    core::fail_errno(ENOMEM, "cannot look for a partition table");
  }
  blkid_partlist list = blkid_probe_get_partitions(probe.get());
  if (list == nullptr) return std::nullopt;
  return listed(list, copy.size());
}

}  // namespace

core::Awaitable<std::optional<std::vector<Partition>>> read_partition_table(core::GuestDisk& disk) {
  SparseCopy copy(disk);
  co_await copy_boot_records(copy);
  for (const unsigned sector_size : {512u, 4096u}) {
    if (disk.size() < 2 * sector_size) break;
    const std::uint64_t last = (disk.size() / sector_size - 1) * sector_size;
    co_await copy_gpt_entries(copy, sector_size, sector_size);
    co_await copy_gpt_entries(copy, last, sector_size);
    std::optional<std::vector<Partition>> found = probe(copy, sector_size);
    if (found) co_return found;
  }
  co_return std::nullopt;
}

}  // namespace fuse
