// `qcowfs map`: where an image has its disk's bytes, for people and, with the names that qemu-img uses, for programs.
#include <unistd.h>

#include <array>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include "core/error.h"
#include "fuse/map_picture.h"
#include "fuse/named_file_policy.h"
#include "fuse/standard_streams.h"
#include "fuse/verbs.h"
#include "qcow2/chain_map.h"

namespace fuse {
namespace {

using qcow2::ChainExtent;
using qcow2::ExtentKind;

class ForPrograms {
 public:
  void extent(const ChainExtent& extent) {
    const bool reads_as_zeros = extent.kind == ExtentKind::unallocated || extent.kind == ExtentKind::zero;
    tell(extent, reads_as_zeros || extent.host_is_hole, !reads_as_zeros);
  }

  void end() {
    if (first_) tell(ChainExtent{}, false, false);  // QEMU has an entry for a disk without bytes too
    print_part("]\n");
  }

 private:
  void tell(const ChainExtent& extent, bool zero, bool data) {
    boost::json::object entry;
    entry["start"] = extent.start;
    entry["length"] = extent.length;
    entry["depth"] = extent.depth;
    entry["present"] = extent.kind != ExtentKind::unallocated;
    entry["zero"] = zero;
    entry["data"] = data;
    entry["compressed"] = extent.kind == ExtentKind::compressed;
    if (extent.host) entry["offset"] = extent.host->value;
    print_part((first_ ? "[" : ",\n") + boost::json::serialize(entry));
    first_ = false;
  }

  bool first_ = true;
};

const char* name_of(const ChainExtent& extent) {
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

std::string hexadecimal(std::uint64_t value) {
  std::array<char, 24> text;
  std::snprintf(text.data(), text.size(), "%#llx", static_cast<unsigned long long>(value));
  return text.data();
}

class ForPeople {
 public:
  /// Which file bytes come from is said where there are several.
  explicit ForPeople(const qcow2::ChainMap& map) : map_(map), names_files_(map.depths() > 1) {
    row("Start", "Length", "Kind", "At", "File");
  }

  void extent(const ChainExtent& extent) {
    if (extent.kind == ExtentKind::unallocated) return;
    row(hexadecimal(extent.start), hexadecimal(extent.length), name_of(extent),
        extent.host ? hexadecimal(extent.host->value) : "", map_.path(extent.depth));
    if (extent.kind != ExtentKind::compressed || extent.depth != 0) return;
    compressed_ += extent.length;
    stored_ += extent.stored;
  }

  void end() const {
    if (compressed_ == 0) return;
    print_part(std::to_string(compressed_) + " bytes are compressed to " + std::to_string(stored_) + "\n");
  }

 private:
  void row(const std::string& start, const std::string& length, const std::string& kind, const std::string& at,
           const std::string& file) const {
    std::string line = column(start, 20) + column(length, 20) + column(kind, 14) + column(at, 16);
    line = names_files_ ? line + file : line.substr(0, line.find_last_not_of(' ') + 1);
    print_part(line + "\n");
  }

  static std::string column(std::string text, std::size_t width) {
    text.resize(std::max(text.size() + 1, width), ' ');
    return text;
  }

  const qcow2::ChainMap& map_;
  bool names_files_;
  std::uint64_t compressed_ = 0;  ///< bytes of the disk, in the image itself
  std::uint64_t stored_ = 0;      ///< that they take, in sectors
};

template <class Listing>
void list(qcow2::ChainMap& map, Listing listing) {
  while (const std::optional<ChainExtent> extent = map.next()) listing.extent(*extent);
  listing.end();
}

// Of the image itself: what lies below has files of its own.
std::optional<MapPicture> picture_for(const MapOptions& options) {
  if (options.json || ::isatty(STDOUT_FILENO) != 1) return std::nullopt;
  const qcow2::ImageMap image(options.image);
  return MapPicture(image.file_size(), image.cluster_size());
}

void map(const MapOptions& options) {
  std::optional<MapPicture> picture = picture_for(options);
  qcow2::UseListener listener;
  if (picture) {
    listener = [&picture](qcow2::HostUse use, qcow2::HostExtent where) {
      picture->add(use_of(use), where.at.value, where.length);
    };
  }
  qcow2::ChainMap chain(options.image, qcow2::ImageFormat::qcow2,
                        named_file_policy(options.named_files, core::DirectIo::automatic), listener);
  if (options.json) {
    list(chain, ForPrograms());
  } else {
    list(chain, ForPeople(chain));
  }
  print(picture ? "\n" + picture->draw() : "");
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
