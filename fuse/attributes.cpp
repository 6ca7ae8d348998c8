#include "fuse/attributes.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <system_error>

#include "fuse/options.h"
#include "fuse/status_report.h"

namespace fuse {
namespace {

constexpr std::string_view prefix = "user.qcowfs.";
constexpr std::string_view commit_interval_name = "user.qcowfs.commit_interval";
constexpr std::string_view cache_size_name = "user.qcowfs.cache_size";
constexpr std::string_view workers_name = "user.qcowfs.workers";
constexpr std::string_view clean_name = "user.qcowfs.clean";
constexpr std::string_view settings[] = {commit_interval_name, cache_size_name, workers_name, clean_name};

}  // namespace

std::string Attributes::list() const {
  std::string names;
  const auto add = [&names](std::string_view name) { names.append(name).push_back('\0'); };
  add(statistics_name);
  for (const std::string_view name : settings) add(name);
  add(compaction_name);
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
  } else if (name == workers_name) {
    value = std::to_string(status.workers);
  } else if (name == clean_name) {
    value = name_of(status.cleaning);
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
  if (std::find(std::begin(settings), std::end(settings), name) == std::end(settings)) return EINVAL;
  MountOptions options;
  try {
    apply_mount_option(options, std::string(name.substr(prefix.size())) + "=" + value);
  } catch (const UsageError&) {
    return EINVAL;
  }
  using std::chrono::seconds;
  if (options.commit_interval_seconds) disk_.set_commit_interval(seconds(*options.commit_interval_seconds));
  if (options.cache_size) disk_.set_cache_size(*options.cache_size);
  if (options.clean) disk_.set_cleaning(*options.clean);
  try {
    if (options.workers) disk_.set_workers(*options.workers);
  } catch (const std::system_error&) {
    return ENOMEM;  // no more threads: those that there are stay. (EAGAIN would arrive as EOPNOTSUPP.)
  }
  return 0;
}

}  // namespace fuse
