// Where an image has its disk's bytes, read from its tables without serving it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "qcow2/format/header.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

enum class ExtentKind { unallocated, zero, standard, compressed };

/// A part of the disk whose clusters are alike and, where they are not compressed, follow each other in the image too.
struct MapExtent {
  std::uint64_t start = 0;  ///< byte of the disk
  std::uint64_t length = 0;
  ExtentKind kind = ExtentKind::unallocated;
  std::optional<HostOffset> host;  ///< of a standard extent's first byte, and of zeros that keep their clusters
  bool host_is_hole = false;       ///< a standard extent where the image file has only a hole: it reads as zeros
  std::uint64_t stored = 0;        ///< bytes of the image that it takes; compressed ones counted in sectors
};

/// Whether `next`, which starts where `one` ends, is more of the same: of its kind, and behind it in the image.
bool continues(const MapExtent& one, const MapExtent& next);

/// What bytes of the image are for.
enum class HostUse { metadata, standard, compressed };

class MapVisitor {
 public:
  virtual ~MapVisitor() = default;
  /// In the order of the disk, from its first byte to its last.
  virtual void extent(const MapExtent& extent) = 0;
  /// In any order; parts of the same cluster come one by one.
  virtual void used(HostUse use, HostExtent where) = 0;
};

/// A walk that waits after each step.
class MapWalk {
 public:
  virtual ~MapWalk() = default;
  /// Tells the visitor some more; false where everything was told before.
  virtual bool step() = 0;
};

/// An image, locked against writers.
/// Errors     Throws core::Error that names the path: what cannot be read, is no qcow2 image, contradicts itself or has
///            a feature that keeps its tables from saying where the disk is.
class ImageMap {
 public:
  explicit ImageMap(const std::string& path);
  /// One that was opened, and locked, before.
  explicit ImageMap(ReadOnlyFile file);

  const std::string& path() const { return file_.path(); }
  int descriptor() const { return file_.descriptor(); }  ///< borrowed
  std::uint64_t disk_size() const;                       ///< bytes
  /// The file that may have what is unallocated here.
  std::optional<BackingReference> backing() const;
  std::uint64_t file_size() const { return file_.size(); }
  std::uint64_t cluster_size() const { return header_.geometry.cluster_size(); }
  void walk(MapVisitor& visitor) const;
  /// The same, step by step. Both must outlive it.
  std::unique_ptr<MapWalk> start_walk(MapVisitor& visitor) const;

 private:
  class Walk;

  ReadOnlyFile file_;
  Header header_;
};

}  // namespace qcow2
