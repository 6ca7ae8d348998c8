// `qcowfs compact`: makes an image smaller in place.
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <string>

#include "core/direct_file.h"
#include "core/error.h"
#include "core/file_lock.h"
#include "core/log.h"
#include "fuse/compact_mounted.h"
#include "fuse/compacted_size.h"
#include "fuse/progress.h"
#include "fuse/soundness.h"
#include "fuse/verb_work.h"
#include "fuse/verbs.h"
#include "qcow2/image.h"

namespace fuse {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void end_early(int) { interrupted = 1; }

ImageSize size_of(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) core::fail_errno(errno, path);
  return {static_cast<std::uint64_t>(facts.st_blocks) * 512, static_cast<std::uint64_t>(facts.st_size)};
}

core::Awaitable<void> compact_image(core::Engine& engine, core::DirectFile& file, const CompactOptions& options) {
  qcow2::ImageOptions how;
  how.name = options.image;
  how.clean = qcow2::Cleaning::off;
  const std::unique_ptr<core::GuestDisk> disk = co_await qcow2::open_image(engine, file, how);
  Progress progress(file.size());
  core::CompactOrder order;
  order.recompress_level = options.recompress_level;
  order.progress = [&progress](std::uint64_t done, std::uint64_t) { progress.reached(done); };
  order.cancelled = [] { return interrupted != 0; };
  auto compacted = naming(options.image, disk->compact(order));
  co_await and_close(*disk, std::move(compacted));
}

}  // namespace

int run_compact(const CompactOptions& options) {
  try {
    core::log_to_stderr(core::LogLevel::normal);
    std::signal(SIGINT, end_early);
    std::signal(SIGTERM, end_early);
    if (is_mounted_disk(options.image)) return compact_mounted(options, [] { return interrupted != 0; });
    const ImageSize before = size_of(options.image);
    core::ThreadedEngine engine(processors());
    const std::string damage = why_not_writable(options.image);
    if (!damage.empty()) core::fail(core::Errc::corrupt_image, damage);
    core::DirectFile file(engine, options.image, core::Access::read_write, core::DirectIo::automatic);
    core::lock_image(file.descriptor(), core::Access::read_write, options.image);
    run_to_end(engine, compact_image(engine, file, options));
    say_sizes(before, size_of(options.image));
    if (interrupted == 0) return exit_success;
    complain(options.image + ": interrupted; it is sound, and as small as it had become");
  } catch (const std::exception& error) {
    complain(core::describe(error));
  }
  return exit_failure;
}

}  // namespace fuse
