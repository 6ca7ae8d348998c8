// `qcowfs info`: what an image says of itself, for people and, with the names that qemu-img uses, for
// programs.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include "core/alignment.h"
#include "core/error.h"
#include "fuse/snapshot_json.h"
#include "fuse/standard_streams.h"
#include "fuse/verbs.h"
#include "fuse/waiting.h"
#include "qcow2/info.h"
#include "qcow2/offline/image_map.h"

namespace fuse {
namespace {

const char* name_of(qcow2::CompressionType type) { return type == qcow2::CompressionType::zstd ? "zstd" : "zlib"; }
const char* yes_or_no(bool value) { return value ? "yes" : "no"; }
const char* compatibility(const qcow2::ImageInfo& info) { return info.version < 3 ? "0.10" : "1.1"; }

boost::json::object for_programs(const qcow2::Snapshot& snapshot) { return snapshot_json(snapshot); }

boost::json::object for_programs(const qcow2::StoredBitmap& bitmap) {
  boost::json::array flags;
  if (bitmap.in_use) flags.emplace_back("in-use");
  if (bitmap.automatic) flags.emplace_back("auto");
  boost::json::object entry;
  entry["name"] = bitmap.name;
  entry["granularity"] = bitmap.granularity;
  entry["flags"] = std::move(flags);
  return entry;
}

template <class Item>
boost::json::array list_for_programs(const std::vector<Item>& items) {
  boost::json::array list;
  for (const Item& item : items) list.push_back(for_programs(item));
  return list;
}

boost::json::object format_specific(const qcow2::ImageInfo& info) {
  boost::json::object data;
  data["compat"] = compatibility(info);
  data["compression-type"] = name_of(info.compression);
  data["refcount-bits"] = info.refcount_bits;
  if (info.version >= 3) {
    data["lazy-refcounts"] = info.lazy_refcounts;
    data["corrupt"] = info.corrupt;
    data["extended-l2"] = info.extended_l2;
  }
  if (!info.bitmaps.empty()) data["bitmaps"] = list_for_programs(info.bitmaps);
  if (info.external_data_file) {
    data["data-file"] = info.data_file;
    data["data-file-raw"] = info.data_file_raw;
  }
  return data;
}

/// What the disk's clusters are, of the image alone.
class ClusterCounts final : public qcow2::MapVisitor {
 public:
  explicit ClusterCounts(std::uint64_t cluster_size) : cluster_size_(cluster_size) {}

  void extent(const qcow2::MapExtent& extent) override {
    if (extent.kind == qcow2::ExtentKind::compressed) compressed_bytes_ += extent.length;
    if (extent.kind == qcow2::ExtentKind::standard) standard_bytes_ += extent.length;
    if (extent.kind == qcow2::ExtentKind::zero) zero_bytes_ += extent.length;
    stored += extent.stored;
  }
  void used(qcow2::HostUse, qcow2::HostExtent) override {}

  // Of those that show several things, each part counts as what it is.
  std::uint64_t compressed() const { return core::divide_up(compressed_bytes_, cluster_size_); }
  std::uint64_t standard() const { return core::divide_up(standard_bytes_, cluster_size_); }
  std::uint64_t zero() const { return core::divide_up(zero_bytes_, cluster_size_); }
  /// Bytes of the disk for each that they take in the image.
  double ratio() const {
    const auto held = static_cast<double>((compressed() + standard()) * cluster_size_);
    return stored == 0 ? 1 : held / static_cast<double>(stored);
  }

  std::uint64_t stored = 0;  ///< bytes of the image; fragments in whole sectors

 private:
  std::uint64_t cluster_size_;
  std::uint64_t compressed_bytes_ = 0;
  std::uint64_t standard_bytes_ = 0;
  std::uint64_t zero_bytes_ = 0;
};

// Nothing of an image that somebody writes at the moment, or whose tables cannot be read: that is for check to say.
std::optional<ClusterCounts> count_clusters(const qcow2::ImageInfo& info) {
  try {
    ClusterCounts counts(info.cluster_size);
    qcow2::ImageMap(info.path).walk(counts);
    return counts;
  } catch (const core::Error&) {
    return std::nullopt;
  }
}

boost::json::object for_programs(const ClusterCounts& counts) {
  boost::json::object object;
  object["compressed-clusters"] = counts.compressed();
  object["standard-clusters"] = counts.standard();
  object["zero-clusters"] = counts.zero();
  object["stored-bytes"] = counts.stored;
  object["ratio"] = counts.ratio();
  return object;
}

std::string for_programs(const qcow2::ImageInfo& info) {
  boost::json::object specific;
  specific["type"] = "qcow2";
  specific["data"] = format_specific(info);

  boost::json::object image;
  image["filename"] = info.path;
  image["format"] = "qcow2";
  image["virtual-size"] = info.virtual_size;
  image["actual-size"] = info.allocated_size;
  image["cluster-size"] = info.cluster_size;
  image["dirty-flag"] = info.dirty;
  if (info.encrypted) image["encrypted"] = true;
  if (!info.backing_file.empty()) {
    image["backing-filename"] = info.backing_file;
    image["full-backing-filename"] = info.backing_path;
  }
  if (!info.backing_format.empty()) image["backing-filename-format"] = info.backing_format;
  if (!info.snapshots.empty()) image["snapshots"] = list_for_programs(info.snapshots);
  image["format-specific"] = std::move(specific);
  if (const auto counts = count_clusters(info)) image["qcowfs"] = for_programs(*counts);  // what QEMU does not say
  return boost::json::serialize(image);
}

std::string in_bytes(std::uint64_t bytes) {
  constexpr const char* units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::string text = std::to_string(bytes) + " bytes";
  if (bytes < 1024) return text;
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  char rounded[32];
  std::snprintf(rounded, sizeof(rounded), "%.4g %s", value, units[unit]);
  return std::string(rounded) + " (" + text + ")";
}

std::string for_people(const qcow2::ImageInfo& info) {
  std::string text;
  const auto row = [&text](std::string name, const std::string& value) {
    name.resize(18, ' ');
    text += name + value + "\n";
  };
  row("image:", info.path);
  row("format:", std::string("qcow2 ") + compatibility(info));
  row("disk size:", in_bytes(info.virtual_size));
  row("file size:", in_bytes(info.file_size));
  row("space taken:", in_bytes(info.allocated_size));
  row("cluster size:", in_bytes(info.cluster_size));
  row("compression:", name_of(info.compression));
  if (const auto counts = count_clusters(info)) {
    row("clusters:", std::to_string(counts->compressed()) + " compressed, " + std::to_string(counts->standard()) +
                         " standard, " + std::to_string(counts->zero()) + " zero");
    char ratio[64];
    std::snprintf(ratio, sizeof(ratio), "%.2f", counts->ratio());
    row("ratio:", std::string(ratio) + " (bytes of the disk for each byte that they take)");
  }
  row("refcount bits:", std::to_string(info.refcount_bits));
  row("snapshots:", std::to_string(info.snapshots.size()));
  for (const qcow2::Snapshot& snapshot : info.snapshots) row("  " + snapshot.id, snapshot.name);
  for (const qcow2::StoredBitmap& bitmap : info.bitmaps) row("bitmap:", bitmap.name);
  if (!info.backing_file.empty()) row("backing file:", info.backing_file);
  if (!info.backing_format.empty()) row("backing format:", info.backing_format);
  row("extended L2:", yes_or_no(info.extended_l2));
  row("external data:", yes_or_no(info.external_data_file));
  row("encrypted:", yes_or_no(info.encrypted));
  row("lazy refcounts:", yes_or_no(info.lazy_refcounts));
  row("marked dirty:", yes_or_no(info.dirty));
  row("marked corrupt:", yes_or_no(info.corrupt));
  return text;
}

}  // namespace

int run_info(const InfoOptions& options) {
  try {
    std::optional<Waiting> waiting(std::in_place, "looking at " + options.image);
    const qcow2::ImageInfo info = qcow2::read_info(options.image);
    waiting.reset();
    print(options.json ? for_programs(info) + "\n" : for_people(info));
    return exit_success;
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
