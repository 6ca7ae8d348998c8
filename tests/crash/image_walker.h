// An independent judge of images: what qemu-img check asks, and every guest byte besides.
#pragma once

#include <string>
#include <vector>

#include "core/bytes.h"
#include "tests/crash/fragment_decoder.h"

namespace crash {

/// What a host cluster is used for.
enum class Use : std::uint8_t {
  nothing,
  header,
  refcount_table,
  refcount_block,
  snapshot_table,
  l1_table,
  l2_table,
  data
};

struct GuestClusterContent {
  std::uint64_t index = 0;                          ///< guest offset / cluster size
  const FragmentDecoder::Hashes* hashes = nullptr;  ///< of its sectors; null for one that reads as zeros
};

struct HostRange {
  std::uint64_t at = 0;
  std::uint64_t length = 0;
  bool overwritable = false;  ///< a standard cluster with its blocks to itself: written over in place
};

struct Walk {
  using Content = std::vector<GuestClusterContent>;  ///< what is named, in the order of the guest
  bool readable = false;                             ///< the header made sense; else the rest is empty
  std::vector<std::string> wrong;                    ///< corruptions; at most some
  std::uint64_t leaks = 0;                           ///< host clusters counted higher than referred to
  std::uint64_t disk_size = 0;                       ///< bytes
  std::uint64_t cluster_size = 0;
  std::uint64_t autoclear_features = 0;  ///< what they stand for is up to date, says the image
  std::vector<Use> uses;                 ///< by host cluster
  Content content;
  std::vector<Content> snapshots;  ///< in the order of their table
  std::vector<HostRange> data;     ///< host bytes of named data, to the end of their last sector

  bool clean() const { return readable && wrong.empty(); }
};

/// Judges as the format says, not as the engine thinks: shares no code with it. Not for images with a backing file,
/// encryption, extended L2 entries or an external data file: those are reported as wrong.
class ImageWalker {
 public:
  explicit ImageWalker(FragmentDecoder& decoder) : decoder_(decoder) {}

  Walk walk(core::Bytes image);
  /// The bytes of one guest cluster of an image that was found clean.
  bool read_cluster(core::Bytes image, std::uint64_t index, core::MutableBytes target);

 private:
  struct Header {
    unsigned cluster_bits = 0;
    unsigned refcount_order = 4;
    bool extended = false;  ///< L2 entries of two words
    std::uint64_t disk_size = 0;
    std::uint64_t l1_entries = 0;
    std::uint64_t l1_at = 0;
    std::uint64_t refcount_table_at = 0;
    std::uint64_t refcount_table_clusters = 0;
    std::uint64_t snapshots = 0;
    std::uint64_t snapshots_at = 0;
    bool zstd = false;
  };
  struct Fragment {
    std::uint64_t at = 0;
    std::uint64_t length = 0;
  };

  bool parse_header(Walk& walk);
  void find_refcounts(Walk& walk);
  void visit_snapshots(Walk& walk);
  void visit_l1(Walk& walk, std::uint64_t at, std::uint64_t entries);
  void visit_l2(Walk& walk, std::uint64_t l1_index, std::uint64_t table);
  std::uint64_t l2_entries() const { return cluster_size_ / (header_.extended ? 16 : 8); }
  void visit_extended(Walk& walk, std::uint64_t guest, std::uint64_t entry, std::uint64_t subclusters);
  void visit_entry(Walk& walk, std::uint64_t guest, std::uint64_t entry);
  void visit_compressed(Walk& walk, std::uint64_t guest, std::uint64_t entry);
  void compare_counts(Walk& walk);

  Fragment fragment_of(std::uint64_t entry) const;
  void refer(Walk& walk, std::uint64_t at, std::uint64_t length, Use use);
  void complain(Walk& walk, const std::string& what, std::uint64_t where);
  std::uint64_t refcount(std::uint64_t cluster) const;
  std::uint64_t load64(std::uint64_t at) const;
  /// Bytes of the image, zeros beyond its end.
  core::Bytes bytes(std::uint64_t at, std::uint64_t length);

  FragmentDecoder& decoder_;
  core::Bytes image_;
  Header header_;
  std::uint64_t cluster_size_ = 0;
  bool active_ = true;                     // the disk as it is now, not as a snapshot has it: COPIED means something
  std::vector<std::uint64_t> blocks_;      // offsets of the refcount blocks
  std::vector<std::uint32_t> references_;  // by host cluster
  core::Buffer beyond_;                    // for what crosses the end
};

}  // namespace crash
