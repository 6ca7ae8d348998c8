#include "qcow2/format/header.h"

#include <bit>
#include <cstring>

#include "core/big_endian.h"
#include "core/error.h"

namespace qcow2 {
namespace {

using core::Errc;
using core::fail;
using core::load_big_endian;
using core::store_big_endian;

constexpr std::uint32_t snapshots_max = 65536;
constexpr std::uint32_t backing_file_name_max = 1023;
constexpr std::uint32_t crypt_method_max = 2;

std::uint32_t field32(core::Bytes bytes, std::size_t at) { return load_big_endian<std::uint32_t>(bytes, at); }
std::uint64_t field64(core::Bytes bytes, std::size_t at) { return load_big_endian<std::uint64_t>(bytes, at); }

void read_version_2_fields(core::Bytes bytes, Header& header) {
  header.version = field32(bytes, header_field::version);
  header.backing_file_offset = field64(bytes, header_field::backing_file_offset);
  header.backing_file_size = field32(bytes, header_field::backing_file_size);
  header.geometry.cluster_bits = field32(bytes, header_field::cluster_bits);
  header.size = field64(bytes, header_field::size);
  header.crypt_method = field32(bytes, header_field::crypt_method);
  header.l1_entries = field32(bytes, header_field::l1_entries);
  header.l1_table = HostOffset{field64(bytes, header_field::l1_table_offset)};
  header.refcount_table = HostOffset{field64(bytes, header_field::refcount_table_offset)};
  header.refcount_table_clusters = field32(bytes, header_field::refcount_table_clusters);
  header.snapshots = field32(bytes, header_field::snapshots);
  header.snapshot_table = HostOffset{field64(bytes, header_field::snapshot_table_offset)};
}

void read_version_3_fields(core::Bytes bytes, Header& header, const std::string& name) {
  header.incompatible_features = field64(bytes, header_field::incompatible_features);
  header.compatible_features = field64(bytes, header_field::compatible_features);
  header.autoclear_features = field64(bytes, header_field::autoclear_features);
  header.geometry.refcount_order = field32(bytes, header_field::refcount_order);
  header.geometry.extended_l2 = (header.incompatible_features & incompatible::extended_l2) != 0;
  header.geometry.external_data = (header.incompatible_features & incompatible::external_data_file) != 0;
  header.geometry.raw_data =
      header.geometry.external_data && (header.autoclear_features & autoclear::raw_external_data) != 0;
  header.length = field32(bytes, header_field::header_length);
  if (header.length < header_length_v3_min) fail(Errc::corrupt_image, name + ": the qcow2 header is too short");

  std::uint8_t type = 0;
  if (header.length > header_field::compression_type) {
    type = std::to_integer<std::uint8_t>(bytes[header_field::compression_type]);
  }
  const bool announced = (header.incompatible_features & incompatible::compression_type) != 0;
  if (announced != (type != 0)) {
    fail(Errc::corrupt_image, name + ": the compression type and its feature bit contradict each other");
  }
  if (type > static_cast<std::uint8_t>(CompressionType::zstd)) {
    fail(Errc::unsupported_feature, name + ": unknown compression type " + std::to_string(type));
  }
  header.compression = static_cast<CompressionType>(type);
}

std::string text_of(core::Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

void require(bool holds, const std::string& name, const char* what) {
  if (!holds) fail(Errc::corrupt_image, name + ": " + what);
}

void check_table_offset(HostOffset at, const Geometry& geometry, const std::string& name, const char* what) {
  require(geometry.is_cluster_aligned(at) && at.value <= host_offset_max, name, what);
}

void check_bounds(const Header& header, const std::string& name, HeaderUse use) {
  const Geometry& geometry = header.geometry;
  require(header.length <= geometry.cluster_size(), name, "the qcow2 header exceeds the cluster size");
  require(geometry.refcount_order <= 6, name, "the refcount width is larger than 64 bits");
  require(!geometry.extended_l2 || geometry.subcluster_size() >= sector_size, name,
          "the clusters are too small for extended L2 entries");
  require(header.size <= disk_size_max, name, "the disk size is too large");
  require(header.crypt_method <= crypt_method_max, name, "unknown encryption method");
  if (header.backing_file_offset != 0) {
    require(header.backing_file_offset <= geometry.cluster_size(), name, "the backing file name lies too far back");
    require(header.backing_file_size <= backing_file_name_max &&
                header.backing_file_size <= geometry.cluster_size() - header.backing_file_offset,
            name, "the backing file name is too long");
  }
  require(header.refcount_table_clusters != 0 || use == HeaderUse::to_check, name, "the image has no refcount table");
  require(header.refcount_table_clusters <= refcount_table_bytes_max >> geometry.cluster_bits, name,
          "the refcount table is too large");
  check_table_offset(header.refcount_table, geometry, name, "the refcount table offset is invalid");
  require(header.l1_entries <= l1_table_bytes_max / 8, name, "the L1 table is too large");
  check_table_offset(header.l1_table, geometry, name, "the L1 table offset is invalid");
  require(header.l1_entries >= geometry.l1_entries(header.size), name, "the L1 table is too small for the disk");
  require(header.snapshots <= snapshots_max, name, "the snapshot table is too large");
  if (header.snapshots != 0) {
    check_table_offset(header.snapshot_table, geometry, name, "the snapshot table offset is invalid");
  }
}

}  // namespace

Header parse_header(core::Bytes bytes, const std::string& name, HeaderUse use) {
  if (bytes.size() < 8 || field32(bytes, header_field::magic) != header_magic) {
    fail(Errc::corrupt_image, name + ": not a qcow2 image");
  }
  const std::uint32_t version = field32(bytes, header_field::version);
  if (version != 2 && version != 3) {
    fail(Errc::unsupported_feature, name + ": unsupported qcow2 version " + std::to_string(version));
  }
  const std::size_t needed = version == 2 ? header_length_v2 : header_length_v3_min + 1;
  require(bytes.size() >= needed, name, "the file ends within the qcow2 header");

  Header header;
  read_version_2_fields(bytes, header);
  if (header.geometry.cluster_bits < cluster_bits_min || header.geometry.cluster_bits > cluster_bits_max) {
    fail(Errc::unsupported_feature,
         name + ": unsupported cluster size 2^" + std::to_string(header.geometry.cluster_bits));
  }
  if (version == 3) read_version_3_fields(bytes, header, name);
  check_bounds(header, name, use);
  return header;
}

void refuse_unserved(const Header& header, bool writable, const std::string& name) {
  const auto refuse = [&name](const std::string& what) { fail(Errc::unsupported_feature, name + ": " + what); };
  if (header.crypt_method != 0) refuse("encrypted images are not supported");
  const std::uint64_t bits = header.incompatible_features;
  if ((bits & ~incompatible::known) != 0) {
    refuse("unknown incompatible feature bit " + std::to_string(std::countr_zero(bits & ~incompatible::known)));
  }
  if (!writable) return;
  if (header.geometry.external_data && header.snapshots != 0) {
    refuse("it has snapshots beside an external data file, which cannot keep what they show; mount it read-only (-r)");
  }
  if ((bits & incompatible::corrupt) != 0) {
    refuse("the image is marked corrupt; repair it with qemu-img check -r all, or mount it read-only (-r)");
  }
  if ((bits & incompatible::dirty) != 0) {
    refuse("the image was not closed cleanly; repair it with qemu-img check -r all, or mount it read-only (-r)");
  }
}

std::vector<HeaderExtension> parse_extensions(const Header& header, core::Bytes first_cluster,
                                              const std::string& name) {
  std::size_t end = first_cluster.size();
  if (header.backing_file_offset != 0) end = std::min<std::size_t>(end, header.backing_file_offset);
  std::vector<HeaderExtension> extensions;
  std::size_t at = header.length;
  while (at + 8 <= end) {
    const std::uint32_t type = field32(first_cluster, at);
    if (type == 0) break;
    const std::size_t length = field32(first_cluster, at + 4);
    require(length <= end - at - 8, name, "a header extension is too large");
    extensions.push_back({type, first_cluster.subspan(at + 8, length)});
    at += 8 + core::align_up(length, 8);
  }
  return extensions;
}

std::optional<BackingReference> find_backing(const Header& header, core::Bytes first_cluster, const std::string& name) {
  const std::vector<HeaderExtension> extensions = parse_extensions(header, first_cluster, name);
  const std::uint64_t at = header.backing_file_offset;
  if (at == 0 || header.backing_file_size == 0) return std::nullopt;
  require(at <= first_cluster.size() && header.backing_file_size <= first_cluster.size() - at, name,
          "the backing file name lies too far back");
  BackingReference reference;
  reference.name = text_of(first_cluster.subspan(at, header.backing_file_size));
  for (const HeaderExtension& found : extensions) {
    if (found.type == extension::backing_format) reference.format = text_of(found.data);
  }
  return reference;
}

std::string find_data_file(const Header& header, core::Bytes first_cluster, const std::string& name) {
  for (const HeaderExtension& found : parse_extensions(header, first_cluster, name)) {
    if (found.type != extension::data_file_name || found.data.empty()) continue;
    return text_of(found.data);
  }
  return {};
}

namespace {

void store_text(core::MutableBytes bytes, std::size_t at, const std::string& text) {
  std::memcpy(bytes.data() + at, text.data(), text.size());
}

// The name follows the extensions; it ends their area.
core::Buffer room_for_header(const Header& header, const std::optional<BackingReference>& backing) {
  std::size_t length = header.length + 8;
  if (backing) length += 8 + core::align_up(backing->format.size(), 8) + backing->name.size();
  return core::Buffer::zeroed(core::align_up(length, header_bytes_switched));
}

void store_backing(core::MutableBytes bytes, const Header& header, const BackingReference& backing) {
  store_big_endian(bytes, header.length, extension::backing_format);
  store_big_endian(bytes, header.length + 4, static_cast<std::uint32_t>(backing.format.size()));
  store_text(bytes, header.length + 8, backing.format);
  const std::size_t name_at = header.length + 8 + core::align_up(backing.format.size(), 8) + 8;
  store_text(bytes, name_at, backing.name);
  store_big_endian(bytes, header_field::backing_file_offset, std::uint64_t{name_at});
  store_big_endian(bytes, header_field::backing_file_size, static_cast<std::uint32_t>(backing.name.size()));
}

}  // namespace

core::Buffer encode_header(const Header& header, const std::optional<BackingReference>& backing) {
  core::Buffer buffer = room_for_header(header, backing);
  const core::MutableBytes bytes = buffer.span();
  store_big_endian(bytes, header_field::magic, header_magic);
  store_big_endian(bytes, header_field::version, header.version);
  store_big_endian(bytes, header_field::cluster_bits, std::uint32_t{header.geometry.cluster_bits});
  store_big_endian(bytes, header_field::size, header.size);
  store_big_endian(bytes, header_field::l1_entries, header.l1_entries);
  store_big_endian(bytes, header_field::l1_table_offset, header.l1_table.value);
  store_big_endian(bytes, header_field::refcount_table_offset, header.refcount_table.value);
  store_big_endian(bytes, header_field::refcount_table_clusters, header.refcount_table_clusters);
  if (backing) store_backing(bytes, header, *backing);
  if (header.version == 2) return buffer;
  store_big_endian(bytes, header_field::incompatible_features, header.incompatible_features);
  store_big_endian(bytes, header_field::compatible_features, header.compatible_features);
  store_big_endian(bytes, header_field::autoclear_features, header.autoclear_features);
  store_big_endian(bytes, header_field::refcount_order, std::uint32_t{header.geometry.refcount_order});
  store_big_endian(bytes, header_field::header_length, header.length);
  bytes[header_field::compression_type] = static_cast<std::byte>(header.compression);
  return buffer;
}

}  // namespace qcow2
