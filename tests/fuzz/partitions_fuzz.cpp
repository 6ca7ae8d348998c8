// A disk whose partition table a stranger wrote: what is shown of it lies on the disk, and no number is there twice.
// Checksums of GPTs are put right, or nothing would ever be looked at behind them.
#include <fuzzer/FuzzedDataProvider.h>
#include <zlib.h>

#include <algorithm>
#include <boost/endian/conversion.hpp>
#include <cstring>

#include "core/check.h"
#include "core/log.h"
#include "fuse/partition_table.h"
#include "tests/support/memory_disk.h"
#include "tests/support/run.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t disk_sizes[] = {0, 512, 1024, 4096, 8192, 1 << 20, 100 << 20, std::uint64_t{1} << 45};
constexpr std::size_t sector_sizes[] = {512, 4096};
constexpr std::size_t entry_size = 128;
constexpr std::size_t entries_max = 300;
constexpr std::size_t header_size = 92;

class Disk {
 public:
  explicit Disk(std::uint64_t size) : disk_(size, 4096) {}

  std::uint64_t size() const { return disk_.size(); }
  void put(std::uint64_t at, const Bytes& bytes) {
    if (at >= size()) return;
    const std::uint64_t length = std::min<std::uint64_t>(bytes.size(), size() - at);
    if (length == 0) return;
    const auto buffer = std::make_shared<core::Buffer>(length);
    std::memcpy(buffer->data(), bytes.data(), length);
    test::run(engine_, disk_.write(core::DiskOffset{at}, core::SharedBytes(buffer)));
  }
  auto partitions() { return test::run(engine_, fuse::read_partition_table(disk_)); }

 private:
  test::TestEngine engine_;
  test::MemoryDisk disk_;
};

std::uint32_t sum_of(const std::uint8_t* bytes, std::size_t length) {
  return static_cast<std::uint32_t>(::crc32(0, bytes, static_cast<uInt>(length)));
}

std::uint64_t number(FuzzedDataProvider& data, std::uint64_t usual) {
  switch (data.ConsumeIntegralInRange<int>(0, 3)) {
    case 0: return data.ConsumeIntegral<std::uint64_t>();
    case 1: return usual + data.ConsumeIntegral<std::uint8_t>() - 128;
    default: return usual;
  }
}

std::uint64_t small_number(FuzzedDataProvider& data) {
  return data.ConsumeBool() ? data.ConsumeIntegral<std::uint16_t>() : data.ConsumeIntegral<std::uint64_t>();
}

void put_boot_record(FuzzedDataProvider& data, Disk& disk, std::uint64_t at) {
  constexpr std::uint8_t types[] = {0, 0x05, 0x0f, 0x83, 0x85, 0xee};
  Bytes record(512);
  for (std::size_t entry = 446; entry < 510; entry += 16) {
    record[entry] = data.ConsumeBool() ? 0x80 : data.ConsumeIntegral<std::uint8_t>();
    record[entry + 4] = data.PickValueInArray(types);
    boost::endian::store_little_u32(&record[entry + 8], static_cast<std::uint32_t>(small_number(data)));
    boost::endian::store_little_u32(&record[entry + 12], static_cast<std::uint32_t>(small_number(data)));
  }
  record[510] = 0x55;
  record[511] = 0xaa;
  disk.put(at, record);
}

Bytes gpt_entries(FuzzedDataProvider& data) {
  const std::size_t count = data.ConsumeIntegralInRange<std::size_t>(0, entries_max);
  Bytes entries(count * entry_size);
  for (std::size_t entry = 0; entry < count && data.remaining_bytes() != 0; ++entry) {
    std::uint8_t* const bytes = &entries[entry * entry_size];
    bytes[0] = data.ConsumeIntegral<std::uint8_t>();  // type: none where it is 0
    bytes[16] = static_cast<std::uint8_t>(entry);
    boost::endian::store_little_u64(bytes + 32, small_number(data));
    boost::endian::store_little_u64(bytes + 40, small_number(data));
  }
  return entries;
}

void put_gpt(FuzzedDataProvider& data, Disk& disk, std::size_t sector_size, bool at_end) {
  const std::uint64_t last = disk.size() / sector_size - 1;
  const std::uint64_t own = at_end ? last : 1;
  const Bytes entries = gpt_entries(data);
  const std::uint64_t entries_at = number(data, at_end ? last - 33 : 2);
  Bytes header(header_size);
  std::memcpy(header.data(), "EFI PART\0\0\1\0", 12);
  boost::endian::store_little_u32(&header[12], static_cast<std::uint32_t>(number(data, header_size)));
  boost::endian::store_little_u64(&header[24], number(data, own));
  boost::endian::store_little_u64(&header[32], number(data, at_end ? 1 : last));
  boost::endian::store_little_u64(&header[40], number(data, 34));         // first usable
  boost::endian::store_little_u64(&header[48], number(data, last - 34));  // last usable
  boost::endian::store_little_u64(&header[72], entries_at);
  boost::endian::store_little_u32(&header[80], static_cast<std::uint32_t>(number(data, entries.size() / entry_size)));
  boost::endian::store_little_u32(&header[84], static_cast<std::uint32_t>(number(data, entry_size)));
  boost::endian::store_little_u32(&header[88], sum_of(entries.data(), entries.size()));
  boost::endian::store_little_u32(&header[16], sum_of(header.data(), header.size()));
  disk.put(own * sector_size, header);
  disk.put(entries_at * sector_size, entries);
}

void put_something(FuzzedDataProvider& data, Disk& disk) {
  const std::size_t sector_size = data.PickValueInArray(sector_sizes);
  switch (data.ConsumeIntegralInRange<int>(0, 3)) {
    case 0: return put_boot_record(data, disk, small_number(data) * 512);
    case 1: return put_gpt(data, disk, sector_size, data.ConsumeBool());
    case 2: return put_boot_record(data, disk, 0);
    default: return disk.put(small_number(data), data.ConsumeBytes<std::uint8_t>(data.ConsumeIntegral<std::uint8_t>()));
  }
}

void expect_possible(const std::vector<fuse::Partition>& partitions, std::uint64_t disk_size) {
  unsigned before = 0;
  for (const fuse::Partition& partition : partitions) {
    CHECK(partition.number > before);
    CHECK(partition.start.value < disk_size && partition.size <= disk_size - partition.start.value);
    before = partition.number;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const bool silent = (core::log_to_stderr(core::LogLevel::silent), true);
  static_cast<void>(silent);
  FuzzedDataProvider data(bytes, size);
  Disk disk(data.PickValueInArray(disk_sizes));
  if (data.ConsumeBool()) put_boot_record(data, disk, 0);
  while (data.remaining_bytes() != 0) put_something(data, disk);
  const auto found = disk.partitions();
  if (found) expect_possible(*found, disk.size());
  return 0;
}
