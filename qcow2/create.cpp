// Lays out and writes the metadata of an empty image:
//
//   | header | refcount table | refcount blocks | L1 table |     each in whole clusters, each cluster's
//   refcount 1
//
// What is zero is never written: the file is stretched over it.
#include "qcow2/create.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <filesystem>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/check.h"
#include "core/error.h"
#include "core/unique_fd.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/refcount_view.h"

namespace qcow2 {
namespace {

using core::Errc;
using core::fail;
using core::fail_errno;

constexpr std::uint64_t cluster_size_min = 1ull << cluster_bits_min;
constexpr std::uint64_t cluster_size_max = 1ull << cluster_bits_max;
constexpr std::uint64_t table_entry_size = 8;
constexpr unsigned refcount_bits_max = 64;
constexpr mode_t created_mode = 0666;  // less the umask

// ---- what was asked for ----

// In the largest unit that leaves no fraction.
std::string in_binary_units(std::uint64_t bytes) {
  constexpr const char* units[] = {" bytes", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  std::size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(units)) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + units[unit];
}

Geometry checked_geometry(const CreateOptions& options) {
  const std::uint64_t cluster = options.cluster_size;
  if (!core::is_power_of_two(cluster) || cluster < cluster_size_min || cluster > cluster_size_max) {
    fail(Errc::bad_argument, "the cluster size must be a power of two from " + in_binary_units(cluster_size_min) +
                                 " to " + in_binary_units(cluster_size_max) + ", not " + in_binary_units(cluster));
  }
  const unsigned refcount = options.refcount_bits;
  if (!core::is_power_of_two(refcount) || refcount > refcount_bits_max) {
    fail(Errc::bad_argument, "a refcount must be 1, 2, 4, 8, 16, 32 or 64 bits wide, not " + std::to_string(refcount));
  }
  const Geometry geometry{static_cast<unsigned>(std::countr_zero(cluster)),
                          static_cast<unsigned>(std::countr_zero(refcount)), options.extended_l2};
  if (geometry.extended_l2 && geometry.subcluster_size() < sector_size) {
    fail(Errc::bad_argument, "extended L2 entries need clusters of at least " +
                                 in_binary_units(sector_size * subclusters_per_cluster) + ", not " +
                                 in_binary_units(cluster));
  }
  return geometry;
}

std::uint64_t checked_size(std::uint64_t size, const Geometry& geometry) {
  const std::uint64_t size_max = l1_table_bytes_max / table_entry_size * geometry.bytes_per_l2_table();
  if (size > size_max) {
    fail(Errc::bad_argument, "a disk with clusters of " + in_binary_units(geometry.cluster_size()) +
                                 " can have at most " + in_binary_units(size_max) + ", not " + in_binary_units(size));
  }
  return core::align_up(size, sector_size);
}

// ---- where it goes ----

struct Layout {
  Geometry geometry;
  std::uint64_t size = 0;  ///< bytes of the disk
  std::uint64_t refcount_table_clusters = 0;
  std::uint64_t refcount_block_clusters = 0;
  std::uint64_t l1_clusters = 0;
  std::uint64_t l1_entries = 0;

  HostCluster refcount_table() const { return {1}; }
  HostCluster refcount_blocks() const { return refcount_table() + refcount_table_clusters; }
  HostCluster l1_table() const { return refcount_blocks() + refcount_block_clusters; }
  HostCluster end() const { return l1_table() + l1_clusters; }
};

void check_version(const CreateOptions& options) {
  if (options.version != 2 && options.version != 3) {
    fail(Errc::bad_argument, "the version must be 2 or 3, not " + std::to_string(options.version));
  }
  if (options.version == 3) return;
  if (options.refcount_bits != 16) fail(Errc::bad_argument, "a version 2 image has refcounts of 16 bits");
  if (options.extended_l2) fail(Errc::bad_argument, "a version 2 image has no extended L2 entries");
  if (options.compression != CompressionType::zlib) fail(Errc::bad_argument, "a version 2 image is compressed by zlib");
}

Layout make_layout(const CreateOptions& options) {
  check_version(options);
  Layout layout;
  layout.geometry = checked_geometry(options);
  layout.size = checked_size(options.size, layout.geometry);
  // An empty disk gets an entry too: its table then is where tables are, and not at offset 0.
  layout.l1_entries = std::max<std::uint64_t>(layout.geometry.l1_entries(layout.size), 1);
  layout.l1_clusters = layout.geometry.host_clusters(layout.l1_entries * table_entry_size);

  // The refcounts count the clusters that they fill themselves: go on until another round adds none.
  HostCluster counted;
  while (counted != layout.end()) {
    counted = layout.end();
    layout.refcount_block_clusters = core::divide_up(counted.value, layout.geometry.refcounts_per_block());
    layout.refcount_table_clusters = layout.geometry.host_clusters(layout.refcount_block_clusters * table_entry_size);
  }
  CHECK(layout.refcount_table_clusters * layout.geometry.cluster_size() <= refcount_table_bytes_max);
  return layout;
}

core::Buffer make_header(const Layout& layout, const CreateOptions& options) {
  Header header;
  header.version = options.version;
  header.geometry = layout.geometry;
  header.size = layout.size;
  header.l1_entries = static_cast<std::uint32_t>(layout.l1_entries);
  header.l1_table = layout.geometry.start_of(layout.l1_table());
  header.refcount_table = layout.geometry.start_of(layout.refcount_table());
  header.refcount_table_clusters = static_cast<std::uint32_t>(layout.refcount_table_clusters);
  if (options.compression != CompressionType::zlib) header.incompatible_features |= incompatible::compression_type;
  if (options.extended_l2) header.incompatible_features |= incompatible::extended_l2;
  header.length = options.version == 2 ? header_length_v2 : header_length_written;
  header.compression = options.compression;
  core::Buffer bytes = encode_header(header, options.backing);
  if (bytes.size() > layout.geometry.cluster_size()) {
    fail(Errc::bad_argument,
         "the name of the backing file is too long for clusters of " + in_binary_units(layout.geometry.cluster_size()));
  }
  return bytes;
}

core::Buffer make_refcount_table(const Layout& layout) {
  core::Buffer table = core::Buffer::zeroed(layout.refcount_block_clusters * table_entry_size);
  for (std::uint64_t block = 0; block < layout.refcount_block_clusters; ++block) {
    const HostOffset at = layout.geometry.start_of(layout.refcount_blocks() + block);
    core::store_big_endian(table.span(), block * table_entry_size, at.value);
  }
  return table;
}

// Blocks lie side by side and are full of refcounts, so all of them together are one array.
core::Buffer make_refcounts(const Layout& layout) {
  const unsigned order = layout.geometry.refcount_order;
  const std::uint64_t count = layout.end().value;
  core::Buffer refcounts = core::Buffer::zeroed(core::divide_up(count << order, 8));
  for (std::uint64_t cluster = 0; cluster < count; ++cluster) set_refcount(refcounts.span(), cluster, order, 1);
  return refcounts;
}

// ---- how it gets there ----

/// A file that did not exist before and does not exist afterwards, unless it is kept.
class NewFile {
 public:
  explicit NewFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, created_mode)) {
    if (fd_.valid()) return;
    if (errno == EEXIST) fail(Errc::bad_argument, path_ + ": already exists; remove it first");
    fail_errno(errno, path_ + ": cannot be created");
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (!kept_) ::unlink(path_.c_str());
  }

  void stretch(std::uint64_t size) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) fail_errno(errno, path_ + ": cannot be written");
  }

  void write(HostOffset at, core::Bytes source) {
    while (!source.empty()) {
      const ssize_t written = ::pwrite(fd_.get(), source.data(), source.size(), static_cast<off_t>(at.value));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_errno(errno, path_ + ": cannot be written");
      source = source.subspan(static_cast<std::size_t>(written));
      at = at + static_cast<std::uint64_t>(written);
    }
  }

  void sync() {
    if (::fsync(fd_.get()) != 0) fail_errno(errno, path_ + ": cannot be made durable");
    sync_name();
  }

  void keep() { kept_ = true; }

 private:
  // A new file's name survives a power cut only with its directory. One that may be written but not read
  // cannot be synced, and some file systems have no need of it: neither is a reason to fail.
  void sync_name() {
    const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
    const core::UniqueFd directory(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid() || ::fsync(directory.get()) == 0) return;
    if (errno != EINVAL && errno != EROFS) fail_errno(errno, path_ + ": its directory cannot be made durable");
  }

  std::string path_;
  core::UniqueFd fd_;
  bool kept_ = false;
};

}  // namespace

void create_image(const std::string& path, const CreateOptions& options) {
  const Layout layout = make_layout(options);
  const Geometry& geometry = layout.geometry;
  const core::Buffer header = make_header(layout, options);
  NewFile file(path);
  file.stretch(geometry.start_of(layout.end()).value);
  file.write(geometry.start_of(layout.refcount_table()), make_refcount_table(layout).span());
  file.write(geometry.start_of(layout.refcount_blocks()), make_refcounts(layout).span());
  file.write(HostOffset{0}, header.span());
  file.sync();
  file.keep();
}

}  // namespace qcow2
