#include "fuse/attributes.h"

#include <cerrno>
#include <chrono>
#include <optional>

#include "fuse/options.h"
#include "fuse/status_report.h"

namespace fuse {
namespace {

constexpr std::string_view prefix = "user.qcowfs.";
constexpr std::string_view commit_interval_name = "user.qcowfs.commit_interval";
constexpr std::string_view cache_size_name = "user.qcowfs.cache_size";

}  // namespace

std::string Attributes::list() const {
  std::string names;
  for (const std::string_view name : {statistics_name, commit_interval_name, cache_size_name, compaction_name}) {
    names += name;
    names += '\0';
  }
  return names;
}

int Attributes::get(std::string_view name, std::string& value) const {
  const core::DiskStatus status = disk_.status();
  if (name == statistics_name) {
    value = status_json(disk_, status, statistics_);
  } else if (name == commit_interval_name) {
    value = std::to_string(status.commit_interval_ms / 1000);
  } else if (name == cache_size_name) {
    value = std::to_string(status.cache_size);
  } else if (name == compaction_name) {
    value = compaction_.text();
  } else {
    return ENODATA;
  }
  return 0;
}

// By the rules of -o, with which the mount began.
int Attributes::set(std::string_view name, const std::string& value) {
  if (name == statistics_name) return EPERM;
  if (name == compaction_name) return disk_.read_only() ? EROFS : compaction_.set(value);
  if (!name.starts_with(prefix)) return EOPNOTSUPP;
  MountOptions options;
  try {
    if (name == commit_interval_name || name == cache_size_name) {
      apply_mount_option(options, std::string(name.substr(prefix.size())) + "=" + value);
    }
  } catch (const UsageError&) {
    return EINVAL;
  }
  if (options.commit_interval_seconds) {
    disk_.set_commit_interval(std::chrono::seconds(*options.commit_interval_seconds));
  } else if (options.cache_size) {
    disk_.set_cache_size(*options.cache_size);
  } else {
    return EINVAL;
  }
  return 0;
}

}  // namespace fuse
