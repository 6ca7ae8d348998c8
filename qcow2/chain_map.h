// Where the bytes of a disk are that several files make together: an image and what it shows through to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qcow2/named_file_search.h"
#include "qcow2/offline/image_map.h"

namespace qcow2 {

/// A part of the disk as the file at `depth` has it: 0 is the image on top. What no file has is unallocated in the
/// last one that reaches so far. In a raw file bytes are standard, at their own place, and holes are zeros there.
struct ChainExtent : MapExtent {
  std::size_t depth = 0;
};

/// One file of the chain, its extents one after the other.
class MapLayer {
 public:
  virtual ~MapLayer() = default;
  virtual const std::string& path() const = 0;
  virtual std::uint64_t size() const = 0;  ///< bytes of the disk that it makes by itself

  /// The first part of [start, end), which lies within size(). `start` never falls.
  MapExtent part(std::uint64_t start, std::uint64_t end);

 protected:
  /// From the first byte to the last, without a gap.
  virtual MapExtent next() = 0;

 private:
  MapExtent current_;
};

/// What bytes of the image on top are for: see MapVisitor.
using UseListener = std::function<void(HostUse, HostExtent)>;

/// The files are locked against writers.
/// Errors     Throws core::Error that names the file, as ImageMap and NamedFileSearch do.
class ChainMap {
 public:
  /// Opens the image at `path` and the whole chain below.
  ChainMap(const std::string& path, ImageFormat format, NamedFilePolicy policy, UseListener listener = {});

  std::uint64_t disk_size() const { return layers_.front()->size(); }  ///< bytes
  std::size_t depths() const { return layers_.size(); }
  const std::string& path(std::size_t depth) const { return layers_[depth]->path(); }

  /// The extents in the order of the disk, joined where one continues the other, then nothing. Throws when it comes to
  /// what cannot be told, and then again.
  std::optional<ChainExtent> next();

 private:
  void open(ReadOnlyFile file, ImageFormat format, NamedFilePolicy policy, UseListener listener);
  std::optional<ChainExtent> next_part();
  void join_or_keep(std::optional<ChainExtent>& whole, const ChainExtent& part);

  std::vector<std::unique_ptr<MapLayer>> layers_;
  std::uint64_t at_ = 0;  ///< everything before it is in a part
  std::optional<ChainExtent> pending_;
};

}  // namespace qcow2
