// Any bytes as a table of snapshots: what is read is within the bytes, and says the same when it is written again.
#include "core/check.h"
#include "core/error.h"
#include "qcow2/format/snapshot_table.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  const std::uint32_t count = data[0] == 255 ? ~0u : data[0] % 16;
  const core::Bytes bytes = std::as_bytes(std::span(data + 1, size - 1));
  try {
    const auto table = qcow2::parse_snapshot_table(bytes, count, "image");
    if (!table) return 0;
    CHECK(table->snapshots.size() == count && table->length <= bytes.size());
    const std::vector<std::byte> written = qcow2::encode_snapshot_table(table->snapshots);
    const auto again = qcow2::parse_snapshot_table(written, count, "image");
    CHECK(again && again->snapshots.size() == count);
    for (std::size_t i = 0; i < count; ++i) {
      const qcow2::Snapshot& one = table->snapshots[i];
      const qcow2::Snapshot& other = again->snapshots[i];
      CHECK(one.name == other.name && one.id == other.id && one.l1_table == other.l1_table);
      CHECK(one.extra_data == other.extra_data && one.disk_size == other.disk_size);
    }
  } catch (const core::Error&) {
  }
  return 0;
}
