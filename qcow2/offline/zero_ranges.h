// What of a file reads as zeros without being read: its holes, and all behind its end.
#pragma once

#include <algorithm>
#include <cstdint>

#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

/// Remembers the run that it looked at last, so that asking for one range after the other costs one call for each run.
/// Ownership  Borrows the file.
/// Threads    One at a time.
class ZeroRanges {
 public:
  explicit ZeroRanges(const ReadOnlyFile& file) : file_(file) {}

  /// All of it lies in one hole, or behind the end of the file.
  bool have(HostExtent extent) {
    const std::uint64_t at = extent.at.value;
    if (at >= file_.size()) return true;
    if (at < begin_ || at >= end_) look_at(extent.at);
    return is_hole_ && extent.length <= end_ - at;
  }

 private:
  void look_at(HostOffset at) {
    const ReadOnlyFile::Run run = file_.run_at(at);
    is_hole_ = run.is_hole;
    begin_ = at.value;
    end_ = begin_ + std::min(run.length, ~std::uint64_t{0} - begin_);
  }

  const ReadOnlyFile& file_;
  bool is_hole_ = false;
  std::uint64_t begin_ = 0;
  std::uint64_t end_ = 0;
};

}  // namespace qcow2
