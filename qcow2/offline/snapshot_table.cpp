#include "qcow2/offline/snapshot_table.h"

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/error.h"

namespace qcow2 {
namespace {

constexpr std::size_t entry_front = 40;
constexpr std::uint32_t extra_data_max = 1024;
constexpr std::uint64_t table_bytes_max = std::uint64_t{1024} * 65536;
constexpr std::size_t read_bytes = 256 << 10;  // more than any one field of an entry

/// The table from front to end, by large reads.
class TableReader {
 public:
  TableReader(const ReadOnlyFile& file, HostOffset at) : file_(file), next_(at) {}

  /// The next `length` bytes, borrowed until the next call.
  core::Bytes take(std::size_t length) {
    if (buffer_.size() - used_ < length) refill();
    const core::Bytes bytes = core::Bytes(buffer_).subspan(used_, length);
    used_ += length;
    return bytes;
  }

 private:
  void refill() {
    const std::size_t left = buffer_.size() - used_;
    next_ = HostOffset{next_.value - left};
    buffer_ = file_.read_or_zeros(next_, read_bytes);
    next_ = next_ + read_bytes;
    used_ = 0;
  }

  const ReadOnlyFile& file_;
  HostOffset next_;  // behind the buffer
  std::vector<std::byte> buffer_;
  std::size_t used_ = 0;
};

std::string as_text(core::Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

SnapshotTable read_snapshot_table(const ReadOnlyFile& file, const Header& header) {
  SnapshotTable table;
  TableReader reader(file, header.snapshot_table);
  for (std::uint32_t i = 0; i < header.snapshots; ++i) {
    const std::uint64_t start = core::align_up(table.length, 8);
    reader.take(start - table.length);
    const core::Bytes front = reader.take(entry_front);
    Snapshot snapshot;
    snapshot.l1_table = HostOffset{core::load_big_endian<std::uint64_t>(front, 0)};
    snapshot.l1_entries = core::load_big_endian<std::uint32_t>(front, 8);
    const std::size_t id_size = core::load_big_endian<std::uint16_t>(front, 12);
    const std::size_t name_size = core::load_big_endian<std::uint16_t>(front, 14);
    snapshot.extra_data_size = core::load_big_endian<std::uint32_t>(front, 36);
    if (snapshot.extra_data_size > extra_data_max) {
      core::fail(core::Errc::corrupt_image,
                 file.path() + ": entry " + std::to_string(i) + " of the snapshot table has too much extra data");
    }
    reader.take(snapshot.extra_data_size);
    snapshot.id = as_text(reader.take(id_size));
    snapshot.name = as_text(reader.take(name_size));
    table.length = start + entry_front + snapshot.extra_data_size + id_size + name_size;
    if (table.length > table_bytes_max) {
      core::fail(core::Errc::corrupt_image, file.path() + ": the snapshot table is too large");
    }
    table.snapshots.push_back(std::move(snapshot));
  }
  return table;
}

}  // namespace qcow2
