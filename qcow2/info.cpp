// Reads an image's header for people who want to know what they have, whether it can be served or not.
#include "qcow2/info.h"

#include "core/alignment.h"
#include "core/error.h"
#include "qcow2/format/header.h"
#include "qcow2/named_file_search.h"
#include "qcow2/offline/bitmap_directory.h"
#include "qcow2/offline/image_layout.h"
#include "qcow2/offline/read_only_file.h"
#include "qcow2/offline/snapshot_table.h"

namespace qcow2 {
namespace {

// As QEMU looks for it: a name with a protocol is no path.
std::string path_of_backing(const std::string& image, const std::string& name) {
  const std::size_t slash = image.rfind('/');
  if (name.starts_with('/') || names_protocol(name) || slash == std::string::npos) return name;
  return image.substr(0, slash + 1) + name;
}

void read_names(const ReadOnlyFile& file, const Header& header, ImageInfo& info) {
  const std::vector<std::byte> first_cluster = file.read(HostOffset{0}, header.geometry.cluster_size());
  if (const auto backing = find_backing(header, first_cluster, info.path)) {
    info.backing_file = backing->name;
    info.backing_path = path_of_backing(info.path, backing->name);
    info.backing_format = backing->format;
  }
  info.data_file = find_data_file(header, first_cluster, info.path);
}

std::vector<StoredBitmap> read_bitmaps(const ReadOnlyFile& file) {
  const ImageLayout layout = read_layout(file);
  std::vector<StoredBitmap> bitmaps;
  if (!layout.bitmaps) return bitmaps;
  BitmapReader(file, layout).for_each([&](StoredBitmap bitmap) { bitmaps.push_back(std::move(bitmap)); });
  return bitmaps;
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
  read_names(file, header, info);
  info.snapshots = read_snapshot_table(file, header).snapshots;
  const bool undefined = (header.incompatible_features & ~incompatible::known) != 0;
  if (header.autoclear_features != 0 && !undefined) info.bitmaps = read_bitmaps(file);
  info.dirty = has(incompatible::dirty);
  info.corrupt = has(incompatible::corrupt);
  info.lazy_refcounts = (header.compatible_features & compatible::lazy_refcounts) != 0;
  info.extended_l2 = has(incompatible::extended_l2);
  info.external_data_file = has(incompatible::external_data_file);
  info.data_file_raw = info.external_data_file && (header.autoclear_features & autoclear::raw_external_data) != 0;
  info.encrypted = header.crypt_method != 0;
  return info;
}

}  // namespace qcow2
