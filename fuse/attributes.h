// The extended attributes of a mounted disk: what it has done, and settings that can change while it is mounted.
#pragma once

#include <string>
#include <string_view>

#include "core/guest_disk.h"
#include "fuse/live_compaction.h"
#include "fuse/statistics.h"

namespace fuse {

/// Names that begin with "user.qcowfs.". The kernel lets those read them who may read the file, and those write them
/// who may write it. Threads    The engine's.
class Attributes {
 public:
  Attributes(core::Engine& engine, core::GuestDisk& disk, const Statistics& statistics)
      : disk_(disk), statistics_(statistics), compaction_(engine, disk) {}

  /// The names, each with a NUL behind it.
  std::string list() const;
  /// Returns 0 and fills `value`, or ENODATA.
  int get(std::string_view name, std::string& value) const;
  /// Returns 0, ENOMEM where no more workers can be had, EBUSY for a second compaction, EPERM for what is only told,
  /// EOPNOTSUPP for names of others, or EINVAL for what is not known or no value.
  int set(std::string_view name, const std::string& value);

  static constexpr std::string_view statistics_name = "user.qcowfs.stats";
  static constexpr std::string_view compaction_name = "user.qcowfs.compact";  ///< see LiveCompaction

 private:
  core::GuestDisk& disk_;
  const Statistics& statistics_;
  LiveCompaction compaction_;
};

}  // namespace fuse
