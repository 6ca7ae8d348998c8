#include "fuse/compact_mounted.h"

#include <sys/xattr.h>

#include <boost/json/parse.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>

#include "core/error.h"
#include "fuse/attributes.h"
#include "fuse/compacted_size.h"
#include "fuse/progress.h"
#include "fuse/verbs.h"

namespace fuse {
namespace {

constexpr std::chrono::milliseconds look_interval(100);
constexpr std::size_t value_bytes_max = 65536;

std::optional<std::string> attribute(const std::string& path, std::string_view name) {
  std::string value(value_bytes_max, '\0');
  const ssize_t length = ::getxattr(path.c_str(), name.data(), value.data(), value.size());
  if (length < 0) return std::nullopt;
  value.resize(static_cast<std::size_t>(length));
  return value;
}

void ask_for(const std::string& path, const std::string& value) {
  const std::string_view name = Attributes::compaction_name;
  if (::setxattr(path.c_str(), name.data(), value.data(), value.size(), 0) == 0) return;
  if (errno == EBUSY) core::fail_errno(EBUSY, path + ": it is being compacted already");
  core::fail_errno(errno, path);
}

std::uint64_t allocated_bytes(const std::string& path) {
  const std::optional<std::string> report = attribute(path, Attributes::statistics_name);
  if (!report) core::fail_errno(errno, path);
  return boost::json::parse(*report).at("allocated-bytes").to_number<std::uint64_t>();
}

void show(Progress& progress, const std::string& state) {
  unsigned long long done = 0;
  unsigned long long total = 0;
  if (std::sscanf(state.c_str(), "running %llu %llu", &done, &total) == 2) progress.reached(done);
}

std::string wait_for_end(const std::string& path, const std::function<bool()>& interrupted) {
  Progress progress(allocated_bytes(path));
  bool asked_to_end = false;
  for (;;) {
    const std::optional<std::string> state = attribute(path, Attributes::compaction_name);
    if (!state) return "failed: the mount is gone";
    if (!state->starts_with("running")) return *state;
    show(progress, *state);
    if (interrupted() && !asked_to_end) {
      ask_for(path, "off");
      asked_to_end = true;
    }
    std::this_thread::sleep_for(look_interval);
  }
}

}  // namespace

bool is_mounted_disk(const std::string& path) { return attribute(path, Attributes::compaction_name).has_value(); }

int compact_mounted(const CompactOptions& options, const std::function<bool()>& interrupted) {
  const std::uint64_t before = allocated_bytes(options.image);
  ask_for(options.image, options.recompress_level ? std::to_string(*options.recompress_level) : "on");
  const std::string ended = wait_for_end(options.image, interrupted);
  if (ended == "stopped") {
    complain(options.image + ": interrupted; it is as small as it had become");
    return exit_failure;
  }
  if (ended != "done") {
    complain(options.image + ": " + ended);
    return exit_failure;
  }
  say_sizes({before, std::nullopt}, {allocated_bytes(options.image), std::nullopt});
  return exit_success;
}

}  // namespace fuse
