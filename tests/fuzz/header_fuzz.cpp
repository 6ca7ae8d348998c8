// Any bytes as the first cluster of an image: the header, its extensions, and the names in them.
#include "core/check.h"
#include "core/error.h"
#include "qcow2/format/header.h"

namespace {

void look_at(const qcow2::Header& header) {
  CHECK(header.geometry.cluster_bits >= 9 && header.geometry.cluster_bits <= 21);
  CHECK(header.l1_table.value <= qcow2::host_offset_max);
  CHECK(header.refcount_table.value <= qcow2::host_offset_max);
  CHECK(header.size <= qcow2::disk_size_max);
  CHECK(header.length >= qcow2::header_length_v2 && header.length <= header.geometry.cluster_size());
}

void read_names(const qcow2::Header& header, core::Bytes bytes) {
  for (const qcow2::HeaderExtension& extension : qcow2::parse_extensions(header, bytes, "image")) {
    CHECK(extension.data.empty() || (extension.data.data() >= bytes.data() &&
                                     extension.data.data() + extension.data.size() <= bytes.data() + bytes.size()));
  }
  qcow2::find_backing(header, bytes, "image");
  qcow2::find_data_file(header, bytes, "image");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const core::Bytes bytes = std::as_bytes(std::span(data, size));
  for (const qcow2::HeaderUse use : {qcow2::HeaderUse::to_serve, qcow2::HeaderUse::to_check}) {
    try {
      const qcow2::Header header = qcow2::parse_header(bytes, "image", use);
      look_at(header);
      std::vector<std::byte> cluster(bytes.begin(), bytes.end());
      cluster.resize(header.geometry.cluster_size());
      read_names(header, cluster);
      qcow2::refuse_unserved(header, true, "image");
    } catch (const core::Error&) {
    }
  }
  return 0;
}
