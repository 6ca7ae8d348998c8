// The files are read side by side from front to back, each only as far as it is needed.
#include "qcow2/chain_map.h"

#include <algorithm>
#include <deque>
#include <exception>
#include <utility>

#include "core/alignment.h"
#include "core/check.h"
#include "core/error.h"

namespace qcow2 {
namespace {

class ImageLayer final : public MapLayer, private MapVisitor {
 public:
  ImageLayer(ReadOnlyFile file, UseListener listener)
      : image_(std::move(file)), listener_(std::move(listener)), walk_(image_.start_walk(*this)) {}

  const std::string& path() const override { return image_.path(); }
  std::uint64_t size() const override { return image_.disk_size(); }
  const ImageMap& image() const { return image_; }

 private:
  MapExtent next() override {
    while (told_.empty()) step();
    const MapExtent extent = told_.front();
    told_.pop_front();
    return extent;
  }

  // What was told before a failure comes before it.
  void step() {
    if (failure_) std::rethrow_exception(failure_);
    try {
      CHECK(walk_->step());
    } catch (const core::Error&) {
      failure_ = std::current_exception();
    }
  }

  void extent(const MapExtent& extent) override { told_.push_back(extent); }
  void used(HostUse use, HostExtent where) override {
    if (listener_) listener_(use, where);
  }

  ImageMap image_;
  UseListener listener_;
  std::deque<MapExtent> told_;
  std::exception_ptr failure_;
  std::unique_ptr<MapWalk> walk_;  // tells into what stands above
};

class RawLayer final : public MapLayer {
 public:
  explicit RawLayer(ReadOnlyFile file) : file_(std::move(file)) {}

  const std::string& path() const override { return file_.path(); }
  std::uint64_t size() const override { return core::align_up(file_.size(), sector_size); }

 private:
  MapExtent next() override {
    const ReadOnlyFile::Run run = file_.run_at(HostOffset{at_});
    MapExtent extent;
    extent.start = at_;
    extent.length = std::min(run.length, size() - at_);
    extent.kind = run.is_hole ? ExtentKind::zero : ExtentKind::standard;
    extent.host = HostOffset{at_};
    extent.stored = run.is_hole ? 0 : extent.length;
    at_ += extent.length;
    return extent;
  }

  ReadOnlyFile file_;
  std::uint64_t at_ = 0;
};

bool continues(const ChainExtent& one, const ChainExtent& next) {
  return one.depth == next.depth && one.host_is_hole == next.host_is_hole &&
         continues(static_cast<const MapExtent&>(one), static_cast<const MapExtent&>(next));
}

}  // namespace

MapExtent MapLayer::part(std::uint64_t start, std::uint64_t end) {
  while (current_.start + current_.length <= start) current_ = next();
  MapExtent part = current_;
  const std::uint64_t before = start - part.start;
  part.start = start;
  part.length = std::min(part.length - before, end - start);
  if (part.host) part.host = *part.host + before;
  if (part.length != current_.length) part.stored = std::min(part.stored, part.length);
  return part;
}

ChainMap::ChainMap(const std::string& path, ImageFormat format, NamedFilePolicy policy, UseListener listener) {
  open(ReadOnlyFile(path, ReadOnlyFile::Lock::against_writers), format, std::move(policy), std::move(listener));
}

void ChainMap::open(ReadOnlyFile file, ImageFormat format, NamedFilePolicy policy, UseListener listener) {
  NamedFileSearch search(file.path(), file.descriptor(), std::move(policy));
  while (format == ImageFormat::qcow2) {
    auto layer = std::make_unique<ImageLayer>(std::move(file), std::exchange(listener, {}));
    const std::optional<BackingReference> reference = layer->image().backing();
    layers_.push_back(std::move(layer));
    if (!reference) return;
    const FoundBacking below = search.find_backing_file(layers_.back()->path(), *reference);
    file = ReadOnlyFile(below.same_file(), ReadOnlyFile::Lock::against_writers, below.path);
    format = below.format;
  }
  layers_.push_back(std::make_unique<RawLayer>(std::move(file)));
}

std::optional<ChainExtent> ChainMap::next_part() {
  if (at_ >= disk_size()) return std::nullopt;
  ChainExtent found;
  std::uint64_t end = disk_size();
  while (true) {
    static_cast<MapExtent&>(found) = layers_[found.depth]->part(at_, end);
    const bool is_last = found.depth + 1 == layers_.size();
    if (found.kind != ExtentKind::unallocated || is_last || at_ >= layers_[found.depth + 1]->size()) break;
    ++found.depth;
    end = std::min(at_ + found.length, layers_[found.depth]->size());
  }
  at_ += found.length;
  return found;
}

std::optional<ChainExtent> ChainMap::next() {
  std::optional<ChainExtent> whole = std::exchange(pending_, std::nullopt);
  try {
    while (!pending_) {
      const std::optional<ChainExtent> part = next_part();
      if (!part) break;
      join_or_keep(whole, *part);
    }
  } catch (const core::Error&) {
    if (!whole) throw;  // otherwise the next call comes to the same place
  }
  return whole;
}

void ChainMap::join_or_keep(std::optional<ChainExtent>& whole, const ChainExtent& part) {
  if (!whole) {
    whole = part;
  } else if (continues(*whole, part)) {
    whole->length += part.length;
    whole->stored += part.stored;
  } else {
    pending_ = part;
  }
}

}  // namespace qcow2
