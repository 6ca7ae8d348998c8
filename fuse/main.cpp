// From the command line to the command.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <type_traits>
#include <variant>

#include "core/error.h"
#include "fuse/announcement.h"
#include "fuse/libfuse.h"
#include "fuse/options.h"
#include "fuse/standard_streams.h"
#include "fuse/verbs.h"

namespace fuse {

namespace {

int run(const MountOptions& options) { return run_mount(options); }
int run(const UmountOptions& options) { return run_umount(options); }
int run(const StatusOptions& options) { return run_status(options); }
int run(const CreateOptions& options) { return run_create(options); }
int run(const InfoOptions& options) { return run_info(options); }
int run(const CheckOptions& options) { return run_check(options); }
int run(const ConvertOptions& options) { return run_convert(options); }
int run(const CompareOptions& options) { return run_compare(options); }
int run(const MapOptions& options) { return run_map(options); }
int run(const CompactOptions& options) { return run_compact(options); }
int run(const SnapshotOptions& options) { return run_snapshot(options); }
int run(const Printout& asked) {
  print(asked.text);
  return exit_success;
}
int run(const ShowVersion&) {
  print(std::string("qcowfs " QCOWFS_VERSION " (libfuse ") + ::fuse_pkgversion() + ")\n");
  return exit_success;
}

// Started with one of them closed, the next file to be opened would become what others take for stdin or
// stderr.
void keep_standard_descriptors() {
  int opened = 0;
  do {
    opened = ::open("/dev/null", O_RDWR);
  } while (opened >= 0 && opened <= STDERR_FILENO);
  if (opened > STDERR_FILENO) ::close(opened);
}

// With its owner's rights it would open for whoever runs it what only the owner may.
void refuse_borrowed_rights() {
  if (::getuid() == ::geteuid() && ::getgid() == ::getegid()) return;
  core::fail(core::Errc::bad_argument,
             "must not be installed setuid or setgid: chmod ug-s it; others than root mount by fusermount3");
}

}  // namespace
}  // namespace fuse

int main(int argc, char** argv) {
  fuse::keep_standard_descriptors();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    fuse::refuse_borrowed_rights();
    const fuse::Command command = fuse::parse_command_line(argc, argv);
    return std::visit([](const auto& options) { return fuse::run(options); }, command);
  } catch (const fuse::UsageError& error) {
    fuse::complain(error.what());
    fuse::announce_refusal({argv + 1, argv + argc}, error.what());
    return error.exit_status();
  } catch (const std::exception& error) {
    fuse::complain(core::describe(error));
    return fuse::exit_failure;
  }
}
