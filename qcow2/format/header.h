// The image header: what its bytes say, whether they can be true, and what of them this program does not serve.
//
//   byte  0  magic "QFI\xfb"      36  L1 entries             72  incompatible features   (version 3 from here on)
//         4  version              40  L1 table offset        80  compatible features
//         8  backing file offset  48  refcount table offset  88  autoclear features
//        16  backing file length  56  its clusters           96  refcount order
//        20  cluster_bits         60  snapshots             100  header length
//        24  disk size            64  snapshot table        104  compression type
//        32  encryption method
//
// All of it that ever changes lies in the first 512 bytes: one sector write switches any combination of it.
// Header extensions follow at the header's length: {u32 type, u32 length, data, padding to 8}; type 0 ends them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "qcow2/format/compression_type.h"
#include "qcow2/format/geometry.h"

namespace qcow2 {

namespace header_field {  // byte offsets of what is rewritten in place
inline constexpr std::size_t magic = 0;
inline constexpr std::size_t version = 4;
inline constexpr std::size_t backing_file_offset = 8;
inline constexpr std::size_t backing_file_size = 16;
inline constexpr std::size_t cluster_bits = 20;
inline constexpr std::size_t size = 24;
inline constexpr std::size_t crypt_method = 32;
inline constexpr std::size_t l1_entries = 36;
inline constexpr std::size_t l1_table_offset = 40;
inline constexpr std::size_t refcount_table_offset = 48;
inline constexpr std::size_t refcount_table_clusters = 56;
inline constexpr std::size_t snapshots = 60;
inline constexpr std::size_t snapshot_table_offset = 64;
inline constexpr std::size_t incompatible_features = 72;
inline constexpr std::size_t compatible_features = 80;
inline constexpr std::size_t autoclear_features = 88;
inline constexpr std::size_t refcount_order = 96;
inline constexpr std::size_t header_length = 100;
inline constexpr std::size_t compression_type = 104;
}  // namespace header_field

inline constexpr std::uint32_t header_magic = 0x514649fb;
inline constexpr std::uint32_t header_length_v2 = 72;
inline constexpr std::uint32_t header_length_v3_min = 104;
inline constexpr std::uint32_t header_length_written = 112;
inline constexpr std::size_t header_bytes_switched = 512;  ///< one sector holds every field above

namespace incompatible {
inline constexpr std::uint64_t dirty = 1ull << 0;
inline constexpr std::uint64_t corrupt = 1ull << 1;
inline constexpr std::uint64_t external_data_file = 1ull << 2;
inline constexpr std::uint64_t compression_type = 1ull << 3;
inline constexpr std::uint64_t extended_l2 = 1ull << 4;
inline constexpr std::uint64_t known = dirty | corrupt | external_data_file | compression_type | extended_l2;
}  // namespace incompatible

namespace compatible {
inline constexpr std::uint64_t lazy_refcounts = 1ull << 0;
}  // namespace compatible

namespace autoclear {
inline constexpr std::uint64_t bitmaps = 1ull << 0;
inline constexpr std::uint64_t raw_external_data = 1ull << 1;
}  // namespace autoclear

struct Header {
  std::uint32_t version = 3;
  Geometry geometry;
  std::uint64_t backing_file_offset = 0;
  std::uint32_t backing_file_size = 0;
  std::uint64_t size = 0;  ///< bytes of the disk, as stored
  std::uint32_t crypt_method = 0;
  std::uint32_t l1_entries = 0;
  HostOffset l1_table;
  HostOffset refcount_table;
  std::uint32_t refcount_table_clusters = 0;
  std::uint32_t snapshots = 0;
  HostOffset snapshot_table;
  std::uint64_t incompatible_features = 0;
  std::uint64_t compatible_features = 0;
  std::uint64_t autoclear_features = 0;
  std::uint32_t length = header_length_v2;
  CompressionType compression = CompressionType::zlib;
};

/// What an image without a refcount table can be used for: its references can be counted, but not served.
enum class HeaderUse { to_serve, to_check };

/// Reads the header at the front of `bytes` (at least 512 of them, or the whole file where that is shorter) and checks
/// every bound that QEMU checks at open. Throws core::Error, sentence first `name`: corrupt_image or, where a bit or a
/// value is one that nobody defined, unsupported_feature.
Header parse_header(core::Bytes bytes, const std::string& name, HeaderUse use = HeaderUse::to_serve);

/// Throws unsupported_feature, naming the feature, for a valid image that cannot be served this way.
void refuse_unserved(const Header& header, bool writable, const std::string& name);

struct HeaderExtension {
  std::uint32_t type = 0;
  core::Bytes data;  ///< borrowed from the bytes that were parsed
};

namespace extension {
inline constexpr std::uint32_t backing_format = 0xe2792aca;
inline constexpr std::uint32_t data_file_name = 0x44415441;
}  // namespace extension

/// The extensions in `first_cluster`, in order. Throws corrupt_image where one runs past their area.
std::vector<HeaderExtension> parse_extensions(const Header& header, core::Bytes first_cluster, const std::string& name);

/// What an image says of the disk below it.
struct BackingReference {
  std::string name;    ///< as stored; relative ones are relative to the image's own directory
  std::string format;  ///< empty where the image does not say
};

/// Nothing where the image has none. Throws corrupt_image where the name or an extension runs past the first cluster.
std::optional<BackingReference> find_backing(const Header& header, core::Bytes first_cluster, const std::string& name);

/// The name of the external data file, as stored; empty where the image says none.
std::string find_data_file(const Header& header, core::Bytes first_cluster, const std::string& name);

/// The first bytes of a new image, whole sectors: the header, an extension for the backing file's format and one that
/// ends them, and the backing file's name. What says where those lie in `header` is not looked at.
core::Buffer encode_header(const Header& header, const std::optional<BackingReference>& backing);

}  // namespace qcow2
