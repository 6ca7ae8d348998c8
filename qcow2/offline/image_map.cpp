#include "qcow2/offline/image_map.h"

#include <algorithm>
#include <vector>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/error.h"
#include "qcow2/offline/preallocation.h"
#include "qcow2/offline/zero_ranges.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t table_entry_bytes = 8;  // of the L1 table
constexpr std::ptrdiff_t shared_tables_max = 1024;
constexpr std::uint64_t tables_read_at_once = 1 << 20;  // bytes of L2 tables that lie side by side

// Joins what belongs together, and tells the visitor.
class Joiner {
 public:
  /// `split_at_holes`: a standard extent may lie in a hole of the file.
  Joiner(MapVisitor& visitor, const ReadOnlyFile& file, bool split_at_holes)
      : visitor_(visitor), file_(file), split_at_holes_(split_at_holes) {}

  void add(const MapExtent& extent) {
    if (pending_.length != 0 && continues(pending_, extent)) {
      pending_.length += extent.length;
      pending_.stored += extent.stored;
      return;
    }
    flush();
    pending_ = extent;
  }

  void flush() {
    if (pending_.length == 0) return;
    const MapExtent whole = std::exchange(pending_, {});
    if (whole.kind == ExtentKind::standard && split_at_holes_) return tell_by_holes(whole);
    visitor_.extent(whole);
  }

 private:
  void tell_by_holes(MapExtent rest) {
    while (rest.length != 0) {
      MapExtent part = rest;
      const ReadOnlyFile::Run run = file_.run_at(*rest.host);
      part.length = std::min(rest.length, run.length);
      part.host_is_hole = run.is_hole;
      part.stored = part.host_is_hole ? 0 : part.length;
      visitor_.extent(part);
      rest.start += part.length;
      rest.host = *rest.host + part.length;
      rest.length -= part.length;
    }
  }

  MapVisitor& visitor_;
  const ReadOnlyFile& file_;
  bool split_at_holes_;
  MapExtent pending_;
};

MapExtent extent_of(const Placement& placement, std::uint64_t start, std::uint64_t length) {
  MapExtent extent;
  extent.start = start;
  extent.length = length;
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    extent.kind = ExtentKind::compressed;
    extent.stored = compressed->extent.length;
  } else if (const auto* standard = std::get_if<StandardCluster>(&placement)) {
    extent.kind = ExtentKind::standard;
    extent.host = standard->at;
    extent.stored = length;
  } else if (const auto* zero = std::get_if<ZeroCluster>(&placement)) {
    extent.kind = ExtentKind::zero;
    if (zero->preallocated.value != 0) extent.host = zero->preallocated;
    extent.stored = extent.host ? length : 0;
  }
  return extent;
}

// Its bytes from `within` on, which all show the same.
MapExtent extent_of(const MixedCluster& mixed, Shows shows, std::uint64_t within, std::uint64_t length) {
  constexpr ExtentKind kinds[] = {ExtentKind::standard, ExtentKind::zero, ExtentKind::unallocated};
  MapExtent extent;
  extent.length = length;
  extent.kind = kinds[static_cast<std::size_t>(shows)];
  if (mixed.at.value != 0) extent.host = mixed.at + within;
  extent.stored = extent.host ? length : 0;
  return extent;
}

[[noreturn]] void fail_naming(const ReadOnlyFile& file, const core::Error& error) {
  const std::string sentence = core::describe(error);
  core::fail(error.code(), sentence.starts_with(file.path()) ? sentence : file.path() + ": " + sentence);
}

}  // namespace

bool continues(const MapExtent& one, const MapExtent& next) {
  if (one.kind != next.kind || one.host.has_value() != next.host.has_value()) return false;
  return !one.host || *one.host + one.length == *next.host;
}

ImageMap::ImageMap(const std::string& path) : ImageMap(ReadOnlyFile(path, ReadOnlyFile::Lock::against_writers)) {}

ImageMap::ImageMap(ReadOnlyFile file)
    : file_(std::move(file)), header_(parse_header(file_.read(HostOffset{0}, header_bytes_switched), file_.path())) {
  refuse_unserved(header_, false, file_.path());
  if (!header_.geometry.external_data) return;
  core::fail(core::Errc::unsupported_feature,
             file_.path() + ": the map of an image with an external data file is not supported");
}

std::optional<BackingReference> ImageMap::backing() const {
  return find_backing(header_, file_.read(HostOffset{0}, header_.geometry.cluster_size()), file_.path());
}

std::uint64_t ImageMap::disk_size() const { return core::align_down(header_.size, sector_size); }

class ImageMap::Walk final : public MapWalk {
 public:
  Walk(const ImageMap& image, MapVisitor& visitor)
      : file_(image.file_),
        header_(image.header_),
        geometry_(header_.geometry),
        size_(image.disk_size()),
        visitor_(visitor),
        stored_(file_, header_),
        zeros_(file_),
        joiner_(visitor, file_, reserves_more_than_it_holds(file_, header_, stored_)) {
    tell_metadata();
    read_l1(geometry_.l1_entries(size_));
  }

  bool step() override {
    try {
      const bool more = told_ < l1_.size();
      if (more) told_ += tables_from(told_);
      if (told_ == l1_.size()) joiner_.flush();
      return more;
    } catch (const core::Error& error) {
      joiner_.flush();  // what comes before it is known
      fail_naming(file_, error);
    }
  }

 private:
  void tell_metadata() {
    const std::uint64_t cluster = geometry_.cluster_size();
    metadata(HostOffset{0}, cluster);
    metadata(header_.l1_table, core::align_up(header_.l1_entries * table_entry_bytes, cluster));
    metadata(header_.refcount_table, header_.refcount_table_clusters * cluster);
    for (std::uint64_t index = 0; index < stored_.table().size(); ++index) {
      if (const std::optional<HostOffset> block = stored_.block(index)) metadata(*block, cluster);
    }
  }

  void metadata(HostOffset at, std::uint64_t length) {
    if (length != 0) visitor_.used(HostUse::metadata, HostExtent{at, length});
  }

  void read_l1(std::uint64_t entries) {
    const std::vector<std::byte> bytes = file_.read_or_zeros(header_.l1_table, entries * table_entry_bytes);
    l1_.resize(entries);
    for (std::uint64_t i = 0; i < entries; ++i) {
      l1_[i] = decode_table_entry(core::load_big_endian<std::uint64_t>(bytes, i * table_entry_bytes), geometry_);
    }
    require_tables_of_their_own();
  }

  // No writer lets two L1 entries share a table. A few may be an accident; who means harm names one a million times.
  void require_tables_of_their_own() const {
    std::vector<std::uint64_t> tables = l1_;
    std::erase(tables, 0);
    std::sort(tables.begin(), tables.end());
    const auto distinct = std::unique(tables.begin(), tables.end());
    if (tables.end() - distinct <= shared_tables_max) return;
    core::fail(core::Errc::corrupt_image, file_.path() + ": thousands of L1 entries name the same L2 tables");
  }

  // Tells what the tables at `index` of the L1 table say, as many as lie side by side. Returns how many.
  std::uint64_t tables_from(std::uint64_t index) {
    const std::uint64_t at = l1_[index];
    if (at == 0 || zeros_.have({HostOffset{at}, geometry_.cluster_size()})) {
      const std::uint64_t start = index * geometry_.bytes_per_l2_table();
      joiner_.add(extent_of(Unallocated{}, start, std::min(geometry_.bytes_per_l2_table(), size_ - start)));
      return 1;
    }
    const std::uint64_t cluster = geometry_.cluster_size();
    std::uint64_t count = 1;
    while (index + count < l1_.size() && l1_[index + count] == at + count * cluster &&
           (count + 1) * cluster <= tables_read_at_once) {
      ++count;
    }
    metadata(HostOffset{at}, count * cluster);
    const std::vector<std::byte> tables = file_.read_or_zeros(HostOffset{at}, count * cluster);
    tell_entries(tables, index * geometry_.bytes_per_l2_table());
    return count;
  }

  void tell_entries(core::Bytes tables, std::uint64_t start) {
    for (std::size_t i = 0; i * geometry_.l2_entry_size() < tables.size() && start < size_; ++i) {
      const std::uint64_t length = std::min(geometry_.cluster_size(), size_ - start);
      const L2Entry entry = load_l2_entry(tables, i, geometry_);
      const Placement placement = decode_l2_entry(entry, geometry_, header_.version);
      if (const auto* mixed = std::get_if<MixedCluster>(&placement)) {
        tell_parts(*mixed, start, length);
      } else {
        joiner_.add(extent_of(placement, start, length));
      }
      tell_use(placement);
      start += length;
    }
  }

  void tell_parts(const MixedCluster& mixed, std::uint64_t start, std::uint64_t length) {
    for (std::uint64_t within = 0; within < length;) {
      const ClusterPart part = part_at(mixed, within, geometry_);
      const std::uint64_t end = std::min(part.end, length);
      MapExtent extent = extent_of(mixed, part.what, within, end - within);
      extent.start = start + within;
      joiner_.add(extent);
      within = end;
    }
  }

  void tell_use(const Placement& placement) {
    if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
      return visitor_.used(HostUse::compressed, compressed->extent);
    }
    const HostClusters clusters = clusters_referenced(placement, geometry_);
    if (clusters.count != 0) {
      visitor_.used(HostUse::standard, {geometry_.start_of(clusters.first), geometry_.cluster_size()});
    }
  }

  const ReadOnlyFile& file_;
  const Header& header_;
  const Geometry& geometry_;
  std::uint64_t size_;
  MapVisitor& visitor_;
  StoredRefcounts stored_;
  ZeroRanges zeros_;
  Joiner joiner_;
  std::vector<std::uint64_t> l1_;  ///< where the L2 tables lie; 0 for none
  std::uint64_t told_ = 0;         ///< entries of it
};

std::unique_ptr<MapWalk> ImageMap::start_walk(MapVisitor& visitor) const {
  try {
    return std::make_unique<Walk>(*this, visitor);
  } catch (const core::Error& error) {
    fail_naming(file_, error);
  }
}

void ImageMap::walk(MapVisitor& visitor) const {
  const std::unique_ptr<MapWalk> walk = start_walk(visitor);
  while (walk->step()) {
  }
}

}  // namespace qcow2
