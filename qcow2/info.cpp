// Reads an image's header for people who want to know what they have, whether it can be served or not.
#include "qcow2/info.h"

#include "core/alignment.h"
#include "core/error.h"
#include "qcow2/format/header.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {
namespace {

using core::Errc;
using core::fail;

std::string read_backing_file_name(const ReadOnlyFile& file, const Header& header, const std::string& path) {
  if (header.backing_file_offset == 0) return {};
  const std::vector<std::byte> name = file.read(HostOffset{header.backing_file_offset}, header.backing_file_size);
  if (name.size() < header.backing_file_size) {
    fail(Errc::corrupt_image, path + ": the file ends within the backing file's name");
  }
  return {reinterpret_cast<const char*>(name.data()), name.size()};
}

}  // namespace

ImageInfo read_info(const std::string& path) {
  const ReadOnlyFile file(path);
  const Header header = parse_header(file.read(HostOffset{0}, header_bytes_switched), path);
  const auto has = [&header](std::uint64_t feature) { return (header.incompatible_features & feature) != 0; };

  ImageInfo info;
  info.path = path;
  info.version = header.version;
  info.virtual_size = core::align_down(header.size, sector_size);  // as it is served
  info.file_size = file.size();
  info.allocated_size = file.allocated_size();
  info.cluster_size = header.geometry.cluster_size();
  info.refcount_bits = header.geometry.refcount_bits();
  info.compression = header.compression;
  info.backing_file = read_backing_file_name(file, header, path);
  info.snapshots = header.snapshots;
  info.dirty = has(incompatible::dirty);
  info.corrupt = has(incompatible::corrupt);
  info.lazy_refcounts = (header.compatible_features & compatible::lazy_refcounts) != 0;
  info.extended_l2 = has(incompatible::extended_l2);
  info.external_data_file = has(incompatible::external_data_file);
  info.encrypted = header.crypt_method != 0;
  return info;
}

}  // namespace qcow2
