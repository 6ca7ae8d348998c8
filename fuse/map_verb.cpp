// `qcowfs map`: where an image has its disk's bytes, for people and, with the names that qemu-img uses, for programs.
#include <unistd.h>

#include <array>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include "core/error.h"
#include "fuse/map_picture.h"
#include "fuse/verbs.h"
#include "qcow2/offline/image_map.h"

namespace fuse {
namespace {

using qcow2::ExtentKind;
using qcow2::MapExtent;

void print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0) core::fail_errno(errno, "writing to stdout");
}

class ForPrograms final : public qcow2::MapVisitor {
 public:
  void extent(const MapExtent& extent) override {
    const bool reads_as_zeros = extent.kind == ExtentKind::unallocated || extent.kind == ExtentKind::zero;
    tell(extent, reads_as_zeros || extent.host_is_hole, !reads_as_zeros);
  }
  void used(qcow2::HostUse, qcow2::HostExtent) override {}

  void end() {
    if (first_) tell(MapExtent{}, false, false);  // QEMU has an entry for a disk without bytes too
    print("]\n");
  }

 private:
  void tell(const MapExtent& extent, bool zero, bool data) {
    boost::json::object entry;
    entry["start"] = extent.start;
    entry["length"] = extent.length;
    entry["depth"] = 0;
    entry["present"] = extent.kind != ExtentKind::unallocated;
    entry["zero"] = zero;
    entry["data"] = data;
    entry["compressed"] = extent.kind == ExtentKind::compressed;
    if (extent.host) entry["offset"] = extent.host->value;
    print((first_ ? "[" : ",\n") + boost::json::serialize(entry));
    first_ = false;
  }

  bool first_ = true;
};

const char* name_of(const MapExtent& extent) {
  switch (extent.kind) {
    case ExtentKind::unallocated: return "unallocated";
    case ExtentKind::zero: return "zero";
    case ExtentKind::standard: return extent.host_is_hole ? "hole" : "standard";
    case ExtentKind::compressed: return "compressed";
  }
  return "";
}

Use use_of(qcow2::HostUse use) {
  switch (use) {
    case qcow2::HostUse::metadata: return Use::metadata;
    case qcow2::HostUse::standard: return Use::standard;
    case qcow2::HostUse::compressed: return Use::compressed;
  }
  return Use::metadata;
}

class ForPeople final : public qcow2::MapVisitor {
 public:
  explicit ForPeople(std::optional<MapPicture>& picture) : picture_(picture) { row("Start", "Length", "Kind", "At"); }

  void extent(const MapExtent& extent) override {
    if (extent.kind == ExtentKind::unallocated) return;
    row(hexadecimal(extent.start), hexadecimal(extent.length), name_of(extent),
        extent.host ? hexadecimal(extent.host->value) : "");
    if (extent.kind != ExtentKind::compressed) return;
    compressed_ += extent.length;
    stored_ += extent.stored;
  }
  void used(qcow2::HostUse use, qcow2::HostExtent where) override {
    if (picture_) picture_->add(use_of(use), where.at.value, where.length);
  }

  void end() {
    if (compressed_ != 0) {
      print(std::to_string(compressed_) + " bytes are compressed to " + std::to_string(stored_) + "\n");
    }
    if (picture_) print("\n" + picture_->draw());
  }

 private:
  static std::string hexadecimal(std::uint64_t value) {
    std::array<char, 24> text;
    std::snprintf(text.data(), text.size(), "%#llx", static_cast<unsigned long long>(value));
    return text.data();
  }

  static void row(std::string start, std::string length, std::string kind, const std::string& at) {
    start.resize(std::max<std::size_t>(start.size() + 1, 20), ' ');
    length.resize(std::max<std::size_t>(length.size() + 1, 20), ' ');
    if (!at.empty()) kind.resize(14, ' ');
    print(start + length + kind + at + "\n");
  }

  std::optional<MapPicture>& picture_;
  std::uint64_t compressed_ = 0;  ///< bytes of the disk
  std::uint64_t stored_ = 0;      ///< that they take, in sectors
};

void map(const MapOptions& options) {
  const qcow2::ImageMap image(options.image);
  if (image.has_backing()) {
    core::fail(core::Errc::unsupported_feature,
               options.image + ": the map of an image with a backing file is not supported");
  }
  if (options.json) {
    ForPrograms visitor;
    image.walk(visitor);
    visitor.end();
  } else {
    std::optional<MapPicture> picture;
    if (::isatty(STDOUT_FILENO) == 1) picture.emplace(image.file_size(), image.cluster_size());
    ForPeople visitor(picture);
    image.walk(visitor);
    visitor.end();
  }
  if (std::fflush(stdout) != 0) core::fail_errno(errno, "writing to stdout");
}

}  // namespace

int run_map(const MapOptions& options) {
  try {
    map(options);
    return exit_success;
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
