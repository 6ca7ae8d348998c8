// Counts references to host clusters, and knows which cannot be counted.
#pragma once

#include <string>

#include "qcow2/format/geometry.h"
#include "qcow2/offline/findings.h"
#include "qcow2/offline/reference_counts.h"

namespace qcow2 {

/// Whether a file of `file_size` bytes has what refers to `extent`: its last cluster may lack its end.
constexpr bool is_within_file(HostExtent extent, std::uint64_t file_size, const Geometry& geometry) {
  const std::uint64_t reach = file_size + geometry.cluster_size() - 1;
  return extent.length <= reach && extent.at.value <= reach - extent.length;
}

/// Ownership  Borrows what it is given.
/// Threads    One at a time.
class HostReferences {
 public:
  HostReferences(const Geometry& geometry, std::uint64_t file_size, ReferenceCounts& counts, Findings& findings)
      : geometry_(geometry), file_size_(file_size), counts_(counts), findings_(findings) {}

  const ReferenceCounts& counts() const { return counts_; }

  /// One more for every cluster that `extent` touches, or `times` more. False, and a corruption, where it reaches
  /// outside the file; `who()` names what refers to it.
  template <class Who>
  bool add(HostExtent extent, Who who, std::uint64_t times = 1) {
    if (extent.length == 0) return true;
    if (!is_within_file(extent, file_size_, geometry_)) {
      findings_.corruption([&] { return say_outside(who(), extent); }, times);
      return false;
    }
    const HostClusters touched = geometry_.clusters_touched(extent);
    for (std::uint64_t i = 0; i < touched.count; ++i) add(touched.first + i, times);
    return true;
  }

 private:
  void add(HostCluster cluster, std::uint64_t times);
  static std::string say_outside(const std::string& who, HostExtent extent);

  Geometry geometry_;
  std::uint64_t file_size_;
  ReferenceCounts& counts_;
  Findings& findings_;
};

}  // namespace qcow2
