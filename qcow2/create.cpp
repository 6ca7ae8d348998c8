// Lays out and writes an empty image:
//
//   | header | refcount table | refcount blocks | L1 table | L2 tables | clusters of the disk |
//
// each in whole clusters, each cluster's refcount 1; the last two only where they are preallocated. What is zero is
// never written, unless that is asked for: the file is stretched over it.
#include "qcow2/create.h"

#include <algorithm>
#include <bit>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/error.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/refcount_view.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/new_file.h"

namespace qcow2 {
namespace {

using core::Errc;
using core::fail;

constexpr std::uint64_t cluster_size_min = 1ull << cluster_bits_min;
constexpr std::uint64_t cluster_size_max = 1ull << cluster_bits_max;
constexpr std::uint64_t table_entry_size = 8;
constexpr unsigned refcount_bits_max = 64;
constexpr std::uint64_t piece_bytes = 1 << 20;       // written at once
constexpr std::uint64_t reserved_at_once = 1 << 30;  // between two chances to be interrupted

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
  std::uint64_t l2_clusters = 0;    ///< of the tables
  std::uint64_t data_clusters = 0;  ///< of the disk

  HostCluster refcount_table() const { return {1}; }
  HostCluster refcount_blocks() const { return refcount_table() + refcount_table_clusters; }
  HostCluster l1_table() const { return refcount_blocks() + refcount_block_clusters; }
  HostCluster l2_tables() const { return l1_table() + l1_clusters; }
  HostCluster data() const { return l2_tables() + l2_clusters; }
  HostCluster end() const { return data() + data_clusters; }
  std::uint64_t data_bytes() const { return data_clusters * geometry.cluster_size(); }
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

void check_backing(const CreateOptions& options) {
  if (!options.backing || options.preallocation == Preallocation::off) return;
  fail(Errc::bad_argument, "an image with a backing file cannot be preallocated: its clusters would hide that file");
}

// The refcounts count the clusters that they fill themselves: go on until another round adds none.
void count_refcounts(Layout& layout) {
  HostCluster counted;
  while (counted != layout.end()) {
    counted = layout.end();
    layout.refcount_block_clusters = core::divide_up(counted.value, layout.geometry.refcounts_per_block());
    layout.refcount_table_clusters = layout.geometry.host_clusters(layout.refcount_block_clusters * table_entry_size);
  }
}

// Only what is preallocated can be too much for what a disk of that size may have.
void check_reach(const Layout& layout) {
  const Geometry& geometry = layout.geometry;
  const bool within_reach = layout.refcount_table_clusters * geometry.cluster_size() <= refcount_table_bytes_max &&
                            layout.end().value <= host_offset_max >> geometry.cluster_bits;
  if (within_reach) return;
  fail(Errc::bad_argument, "a disk of " + in_binary_units(layout.size) +
                               " is too large to be preallocated in clusters of " +
                               in_binary_units(geometry.cluster_size()) + " with refcounts of " +
                               std::to_string(geometry.refcount_bits()) + " bits");
}

Layout make_layout(const CreateOptions& options) {
  check_version(options);
  check_backing(options);
  Layout layout;
  layout.geometry = checked_geometry(options);
  layout.size = checked_size(options.size, layout.geometry);
  // An empty disk gets an entry too: its table then is where tables are, and not at offset 0.
  layout.l1_entries = std::max<std::uint64_t>(layout.geometry.l1_entries(layout.size), 1);
  layout.l1_clusters = layout.geometry.host_clusters(layout.l1_entries * table_entry_size);
  if (options.preallocation != Preallocation::off) {
    layout.l2_clusters = layout.geometry.l1_entries(layout.size);
    layout.data_clusters = layout.geometry.guest_clusters(layout.size);
  }
  count_refcounts(layout);
  check_reach(layout);
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

// ---- how it gets there ----

// Makes what the layout says, piece by piece, and tells how far it has come.
class Making {
 public:
  Making(NewFile& file, const Layout& layout, Preallocation preallocation, const CreateProgress& progress)
      : file_(file),
        layout_(layout),
        geometry_(layout.geometry),
        reserves_(preallocation == Preallocation::falloc || preallocation == Preallocation::full),
        writes_zeros_(preallocation == Preallocation::full),
        progress_(progress) {}

  void run(core::Bytes header) {
    file_.stretch(geometry_.start_of(layout_.end()).value);
    write_refcount_table();
    write_refcounts();
    write_l1_table();
    write_l2_tables();
    if (reserves_ && !reserve_data()) writes_zeros_ = true;
    if (writes_zeros_) write_zeros();
    file_.write(HostOffset{0}, header);
  }

 private:
  void write_refcount_table() {
    write_table(layout_.refcount_table(), layout_.refcount_block_clusters,
                [this](std::uint64_t block) { return geometry_.start_of(layout_.refcount_blocks() + block).value; });
  }

  // Blocks lie side by side and are full of refcounts, so all of them together are one array.
  void write_refcounts() {
    const unsigned order = geometry_.refcount_order;
    const std::uint64_t count = layout_.end().value;
    const std::uint64_t counts_per_piece = piece_bytes * 8 >> order;
    core::Buffer piece;
    for (std::uint64_t done = 0; done < count; done += counts_per_piece) {
      const std::uint64_t counts = std::min(counts_per_piece, count - done);
      const std::uint64_t bytes = core::divide_up(counts << order, 8);
      if (piece.empty() || counts != counts_per_piece) {
        piece = core::Buffer::zeroed(bytes);
        for (std::uint64_t i = 0; i < counts; ++i) set_refcount(piece.span(), i, order, 1);
      }
      write(geometry_.start_of(layout_.refcount_blocks()) + (done << order) / 8, piece.span());
    }
  }

  void write_l1_table() {
    write_table(layout_.l1_table(), layout_.l2_clusters, [this](std::uint64_t table) {
      return encode_l1_entry(geometry_.start_of(layout_.l2_tables() + table));
    });
  }

  // They lie side by side too.
  void write_l2_tables() {
    const auto store = [this](core::MutableBytes piece, std::uint64_t index, std::uint64_t cluster) {
      const HostOffset at = geometry_.start_of(layout_.data() + cluster);
      store_l2_entry(piece, index, encode_standard_entry(at, geometry_), geometry_);
    };
    write_entries(layout_.l2_tables(), layout_.data_clusters, geometry_.l2_entry_size(), store);
  }

  template <class EntryAt>
  void write_table(HostCluster table, std::uint64_t count, EntryAt entry_at) {
    const auto store = [&](core::MutableBytes piece, std::uint64_t index, std::uint64_t entry) {
      core::store_big_endian(piece, index * table_entry_size, entry_at(entry));
    };
    write_entries(table, count, table_entry_size, store);
  }

  template <class Store>
  void write_entries(HostCluster table, std::uint64_t count, std::uint64_t entry_size, Store store) {
    const std::uint64_t entries_per_piece = piece_bytes / entry_size;
    core::Buffer piece(std::min(count, entries_per_piece) * entry_size);
    for (std::uint64_t done = 0; done < count; done += entries_per_piece) {
      const std::uint64_t entries = std::min(entries_per_piece, count - done);
      for (std::uint64_t i = 0; i < entries; ++i) store(piece.span(), i, done + i);
      write(geometry_.start_of(table) + done * entry_size, piece.span().first(entries * entry_size));
    }
  }

  // Also of what is written then: a host disk that is too full for it says so at once.
  bool reserve_data() {
    bool reserved = true;
    for_each_piece(reserved_at_once, [&](HostExtent piece) {
      reserved = reserved && file_.reserve(piece);
      if (reserved && !writes_zeros_) tell(piece.at + piece.length);
    });
    return reserved;
  }

  void write_zeros() {
    const core::Buffer zeros = core::Buffer::zeroed(std::min(piece_bytes, layout_.data_bytes()));
    for_each_piece(piece_bytes, [&](HostExtent piece) { write(piece.at, zeros.span().first(piece.length)); });
  }

  template <class Action>
  void for_each_piece(std::uint64_t length, Action action) const {
    const HostOffset begin = geometry_.start_of(layout_.data());
    for (std::uint64_t done = 0; done < layout_.data_bytes(); done += length) {
      action(HostExtent{begin + done, std::min(length, layout_.data_bytes() - done)});
    }
  }

  void write(HostOffset at, core::Bytes bytes) {
    file_.write(at, bytes);
    tell(at + bytes.size());
  }

  void tell(HostOffset position) const {
    if (progress_) progress_(position.value, geometry_.start_of(reserves_ ? layout_.end() : layout_.data()).value);
  }

  NewFile& file_;
  const Layout& layout_;
  const Geometry& geometry_;
  bool reserves_;
  bool writes_zeros_;
  const CreateProgress& progress_;
};

}  // namespace

void create_image(const std::string& path, const CreateOptions& options, const CreateProgress& progress) {
  const Layout layout = make_layout(options);
  const core::Buffer header = make_header(layout, options);
  NewFile file(path, options.name.empty() ? path : options.name);
  Making(file, layout, options.preallocation, progress).run(header.span());
  file.sync();
  file.keep();
}

}  // namespace qcow2
