// `qcowfs status`: what a mount says of itself, by an extended attribute that it shows.
#include <sys/xattr.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "core/error.h"
#include "fuse/attributes.h"
#include "fuse/mount_table.h"
#include "fuse/standard_streams.h"
#include "fuse/status_text.h"
#include "fuse/verbs.h"

namespace fuse {
namespace {

constexpr std::size_t report_bytes_max = 65536;  // of any extended attribute
constexpr std::chrono::seconds watch_interval(1);
constexpr const char* clear_screen = "\033[H\033[2J";

[[noreturn]] void refuse(const std::string& path, int error) {
  switch (error) {
    case ENOTCONN:
      core::fail(core::Errc::bad_argument, path + ": its daemon died; take the mount away: qcowfs umount " + path);
    case ENODATA:
    case EOPNOTSUPP:
      core::fail(core::Errc::bad_argument, path +
                                               ": neither a mount of qcowfs nor the disk in one, or its kernel is "
                                               "older than Linux 5.11");
    case EACCES: core::fail_errno(error, path + ": only who may read the disk may see this");
    default: core::fail_errno(error, path);
  }
}

// Returns 0, or the errno.
int ask(const std::string& path, std::string& report) {
  report.resize(report_bytes_max);
  const ssize_t length = ::getxattr(path.c_str(), Attributes::statistics_name.data(), report.data(), report.size());
  if (length < 0) return errno;
  report.resize(static_cast<std::size_t>(length));
  return 0;
}

std::string report_of(const std::string& path) {
  std::string report;
  if (const int error = ask(path, report); error != 0) refuse(path, error);
  return report;
}

std::string rendered(const StatusOptions& options, const std::string& report,
                     const std::optional<boost::json::value>& before) {
  if (options.json) return report + "\n";
  const boost::json::value parsed = boost::json::parse(report);
  if (options.prometheus) return status_for_prometheus(parsed, canonical_mountpoint(options.mountpoint));
  return status_for_people(parsed, before);
}

// Until it is interrupted, or the mount is gone.
void watch(const StatusOptions& options) {
  const bool redraws = !options.json && ::isatty(STDOUT_FILENO) == 1;
  std::optional<boost::json::value> before;
  std::string report = report_of(options.mountpoint);
  for (;;) {
    print((redraws ? clear_screen : "") + rendered(options, report, before));
    before = boost::json::parse(report);
    std::this_thread::sleep_for(watch_interval);
    const int error = ask(options.mountpoint, report);
    if (error == ENODATA || error == EOPNOTSUPP || error == ENOENT) return;
    if (error != 0) refuse(options.mountpoint, error);
  }
}

}  // namespace

int run_status(const StatusOptions& options) {
  try {
    if (options.watch) {
      watch(options);
    } else {
      print(rendered(options, report_of(options.mountpoint), std::nullopt));
    }
    return exit_success;
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
