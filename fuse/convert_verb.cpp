// `qcowfs convert`: a disk into a new image.
#include <unistd.h>

#include <exception>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "fuse/copy.h"
#include "fuse/images.h"
#include "fuse/unfinished_file.h"
#include "fuse/verb_work.h"
#include "fuse/verbs.h"

namespace fuse {
namespace {

constexpr std::uint64_t raw_unit = 64 << 10;  // of a raw target's pieces: its holes are found within them anyway
constexpr std::uint64_t cluster_size_default = 64 << 10;

// One conversion. Every step hands the next one what it opened, and closes that behind it.
class Conversion {
 public:
  /// `target` is nothing for stdout. All must outlive it.
  Conversion(core::Engine& engine, const ConvertOptions& options, const UnfinishedFile* target)
      : engine_(engine), options_(options), target_(target) {}

  core::Awaitable<void> run();

 private:
  core::Awaitable<void> from_image(Source& source);
  core::Awaitable<void> copy(CopySource& pieces);
  core::Awaitable<void> into_image(CopySource& pieces, Progress& progress);
  core::Awaitable<void> into_file(CopySource& pieces, Progress& progress);

  core::Engine& engine_;
  const ConvertOptions& options_;
  const UnfinishedFile* target_;
};

core::Awaitable<void> Conversion::run() {
  if (options_.source == standard_stream) {
    StreamPieces pieces(engine_, STDIN_FILENO, options_.source_format.has_value());
    co_await copy(pieces);
    co_return;
  }
  const std::unique_ptr<Source> source =
      co_await open_source(engine_, options_.source, options_.source_format, options_.named_files, options_.snapshot);
  auto copied = from_image(*source);
  co_await and_close(*source, std::move(copied));
}

core::Awaitable<void> Conversion::from_image(Source& source) {
  const bool to_image = options_.target_format == ImageFormat::qcow2;
  DiskPieces pieces(source, to_image ? options_.cluster_size.value_or(cluster_size_default) : raw_unit);
  co_await copy(pieces);
}

core::Awaitable<void> Conversion::copy(CopySource& pieces) {
  Progress progress(pieces.size());
  if (target_ == nullptr) {
    StreamTarget target(engine_, STDOUT_FILENO);
    co_await copy_disk(engine_, pieces, target, progress);
  } else if (options_.target_format == ImageFormat::qcow2) {
    co_await into_image(pieces, progress);
  } else {
    co_await into_file(pieces, progress);
  }
}

core::Awaitable<void> Conversion::into_image(CopySource& pieces, Progress& progress) {
  const std::string& path = target_->temporary_path();
  const OpenDisk image = co_await create_target_image(engine_, path, options_, pieces.size());
  DiskTarget target(*image.disk, options_.target);
  auto copied = copy_disk(engine_, pieces, target, progress);
  co_await and_close(target, std::move(copied));
}

core::Awaitable<void> Conversion::into_file(CopySource& pieces, Progress& progress) {
  target_->create();
  core::DirectFile file(engine_, target_->temporary_path(), core::Access::read_write, core::DirectIo::automatic);
  co_await file.truncate(pieces.size());  // writes within a file go side by side, those that lengthen it do not
  FileTarget target(engine_, file, options_.target);
  co_await copy_disk(engine_, pieces, target, progress);
}

int convert(const ConvertOptions& options) {
  std::optional<UnfinishedFile> target;
  if (options.target != standard_stream) {
    target.emplace(options.target);
  } else if (::isatty(STDOUT_FILENO) == 1) {
    core::fail(core::Errc::bad_argument, "stdout is a terminal, and no place for a disk");
  }
  core::ThreadedEngine engine(processors());
  Conversion conversion(engine, options, target ? &*target : nullptr);
  run_to_end(engine, conversion.run());
  if (target) target->publish();
  return exit_success;
}

}  // namespace

int run_convert(const ConvertOptions& options) {
  core::log_to_stderr(core::LogLevel::silent);  // each failure is thrown and told in one line
  try {
    return convert(options);
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
