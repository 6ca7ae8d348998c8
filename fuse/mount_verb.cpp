// `qcowfs mount`: wires engine, image file, image and mount together, and takes them apart in the right
// order.
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "core/direct_file.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/file_lock.h"
#include "core/log.h"
#include "fuse/announcement.h"
#include "fuse/control.h"
#include "fuse/daemon.h"
#include "fuse/images.h"
#include "fuse/mount_plan.h"
#include "fuse/named_file_policy.h"
#include "fuse/pid_file.h"
#include "fuse/sandbox/privileged_helper.h"
#include "fuse/sandbox/sandbox.h"
#include "fuse/server.h"
#include "fuse/soundness.h"
#include "fuse/verbs.h"
#include "fuse/waiting.h"
#include "qcow2/image.h"
#include "qcow2/named_files.h"

namespace fuse {

namespace asio = boost::asio;

namespace {

void open_log(const MountOptions& options) {
  const core::LogLevel level = options.debug ? core::LogLevel::debug : core::LogLevel::normal;
  if (!options.log_file.empty()) return core::log_to_file(options.log_file, level);
  if (options.foreground) return core::log_to_stderr(level);
  core::log_to_syslog(level);
}

// While the kernel frees memory it may wait for us to write; it must not make us wait for memory then.
// Inherited by the threads to come. Needs a privilege that is often missing.
void announce_ourselves_to_reclaim() { ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

qcow2::ImageOptions image_options(const MountOptions& options) {
  qcow2::ImageOptions image;
  image.name = options.image;
  image.read_only = options.read_only;
  image.snapshot = options.snapshot;
  image.level = options.level.value_or(image.level);
  if (options.wide_window) image.window = qcow2::Window::wide;
  image.cache_size = options.cache_size.value_or(image.cache_size);
  image.discard = options.discard;
  image.clean = options.clean.value_or(image.clean);
  if (options.commit_interval_seconds) image.commit_interval_ms = *options.commit_interval_seconds * 1000;
  return image;
}

core::Awaitable<void> open_and_serve(core::Engine& engine, core::DirectFile& file, const MountOptions& options,
                                     const MountPlan& plan, const std::string& damage, Startup& startup,
                                     Control& control, PrivilegedHelper& helper) {
  qcow2::NamedFiles others(engine, options.image, file.descriptor(),
                           named_file_policy(options.named_files, options.direct));
  qcow2::ImageOptions how = image_options(options);
  others.serve(how);
  const std::unique_ptr<core::GuestDisk> disk = co_await qcow2::open_image(engine, file, how);
  if (!damage.empty()) {
    const std::string sentence = damage + "; mounted read-only until then";
    const bool log_is_terminal = options.foreground && options.log_file.empty();
    if (!log_is_terminal) spdlog::warn("{}", sentence);
    complain(sentence);
  }
  co_await serve(engine, *disk, plan, startup, control, helper);
}

std::unique_ptr<core::DirectFile> open_image_file(core::Engine& engine, const MountOptions& options,
                                                  core::Access access) {
  try {
    return std::make_unique<core::DirectFile>(engine, options.image, access, options.direct);
  } catch (const core::Error& error) {
    if (error.code() == boost::system::errc::permission_denied) {
      const bool readable = access == core::Access::read_write && ::access(options.image.c_str(), R_OK) == 0;
      const char* const advice = readable ? "; it may be read: -r mounts it read-only" : "; ask its owner, or root";
      core::fail(error.code(), core::describe(error) + advice);
    }
    if (error.code() != boost::system::errc::no_such_file_or_directory) throw;
    const std::string meant =
        options.verb_meant.empty() ? "" : "; did you mean the command qcowfs " + options.verb_meant + "?";
    const std::string advice = meant.empty() ? "; qcowfs create or -o create=SIZE makes one" : meant;
    core::fail(error.code(), core::describe(error) + advice);
  }
}

// Who may not have the image, or has nowhere to mount it, learns that before anything is changed.
void try_all_else(core::Engine& engine, MountOptions options) {
  // What is done without direct I/O is said when the image is opened to be served.
  if (options.direct == core::DirectIo::automatic) options.direct = core::DirectIo::off;
  const std::unique_ptr<core::DirectFile> file = open_image_file(engine, options, core::Access::read_write);
  core::lock_image(file->descriptor(), core::Access::read_write, options.image);
  plan_mount(options, file->descriptor());
}

// `control` outlives the file in here: who listens hears the end of the stream when the image is free.
void mount_and_serve(core::ThreadedEngine& engine, const MountOptions& wanted, Startup& startup, Control& control,
                     PrivilegedHelper& helper) {
  if (wanted.create_size) {
    prepare_mountpoint(wanted.mountpoint);  // no new file for a mount that cannot be
    create_missing_image(wanted.image, *wanted.create_size);
  }
  MountOptions options = wanted;
  std::string damage;
  if (!options.read_only) {
    try_all_else(engine, options);
    std::optional<Waiting> waiting;  // in the background the parent says it
    if (options.foreground) waiting.emplace("looking at " + options.image);
    damage = why_not_writable(options.image);
    waiting.reset();
    options.read_only = !damage.empty();  // a damaged image can still be read
  }
  const core::Access access = options.read_only ? core::Access::read_only : core::Access::read_write;
  const std::unique_ptr<core::DirectFile> opened = open_image_file(engine, options, access);
  core::DirectFile& file = *opened;
  core::lock_image(file.descriptor(), access, options.image);
  const MountPlan plan = plan_mount(options, file.descriptor());
  if (!plan.warning.empty()) complain(plan.warning);

  std::exception_ptr failure;
  auto keep_failure = [&failure](std::exception_ptr error) { failure = error; };
  asio::co_spawn(engine.executor(), open_and_serve(engine, file, options, plan, damage, startup, control, helper),
                 keep_failure);
  engine.run();
  if (failure) std::rethrow_exception(failure);
}

// From here on the daemon is what an image, or whoever uses the disk, might take over.
void give_up_powers(core::ThreadedEngine& engine, PrivilegedHelper& helper, const MountOptions& options) {
  helper.seal();
  if (!options.sandbox.value_or(sandbox_by_default)) return;
  const Confinement confinement = confine(engine);
  if (options.sandbox && !confinement.system_calls)
    core::fail(core::Errc::bad_argument, "-o sandbox=on: " + confinement.describe() + "; without it, it is tried");
  spdlog::log(confinement.system_calls ? spdlog::level::info : spdlog::level::warn, "{}: {}", options.image,
              confinement.describe());
}

int serve_in_this_process(const MountOptions& options, Startup& startup, Announcement& announcement) {
  try {
    open_log(options);
    PrivilegedHelper helper;
    std::optional<PidFile> pid_file;
    if (!options.pid_file.empty()) pid_file.emplace(options.pid_file, helper);
    announce_ourselves_to_reclaim();
    const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
    core::ThreadedEngine engine(options.workers.value_or(processors));
    Control control(engine);
    startup.when_live([&] {
      announcement.prepare();
      give_up_powers(engine, helper, options);
      announcement.ready();
    });
    try {
      mount_and_serve(engine, options, startup, control, helper);
      control.finish("");
      return exit_success;
    } catch (const std::exception& error) {
      control.finish(core::describe(error));
      throw;
    }
  } catch (const std::exception& error) {
    if (startup.is_live()) {
      spdlog::error("{}", core::describe(error));
    } else {
      complain(core::describe(error));
      announcement.failed(core::describe(error));
    }
    return exit_failure;
  }
}

}  // namespace

int run_mount(const MountOptions& options) {
  Announcement announcement(options.notify_pipe, options.ready_descriptor);
  const auto body = [&](Startup& startup) { return serve_in_this_process(options, startup, announcement); };
  return options.foreground ? run_in_foreground(body) : run_in_background(body, "mounting " + options.image);
}

}  // namespace fuse
