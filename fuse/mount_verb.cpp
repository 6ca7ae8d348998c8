// `qcowfs mount`: wires engine, image file, image and mount together, and takes them apart in the right
// order.
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "core/blocking_file.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/log.h"
#include "core/nbd/nbd_export.h"
#include "fuse/announcement.h"
#include "fuse/control.h"
#include "fuse/daemon.h"
#include "fuse/images.h"
#include "fuse/mount_plan.h"
#include "fuse/named_file_policy.h"
#include "fuse/opened_image.h"
#include "fuse/pid_file.h"
#include "fuse/sandbox/privileged_helper.h"
#include "fuse/sandbox/sandbox.h"
#include "fuse/server.h"
#include "fuse/soundness.h"
#include "fuse/verb_work.h"
#include "fuse/verbs.h"
#include "fuse/waiting.h"
#include "qcow2/image.h"
#include "qcow2/named_files.h"

namespace fuse {

namespace {

/// What of the process itself a mount has to do with.
struct Daemon {
  Startup& startup;
  Control& control;
  PrivilegedHelper& helper;
};

void open_log(const MountOptions& options) {
  const core::LogLevel level = options.debug ? core::LogLevel::debug : core::LogLevel::normal;
  if (!options.log_file.empty()) return core::log_to_file(options.log_file, level);
  if (options.foreground) return core::log_to_stderr(level);
  core::log_to_syslog(level);
}

// While the kernel frees memory it may wait for us to write; it must not make us wait for memory then.
// Inherited by the threads to come. Needs a privilege that is often missing.
void announce_ourselves_to_reclaim() { ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

core::Access access_of(const MountOptions& options) {
  return options.read_only ? core::Access::read_only : core::Access::read_write;
}

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

// Who may not have the image, or has nowhere to mount it, learns that before anything is changed.
void try_all_else(core::Engine& engine, MountOptions options) {
  // What is done without direct I/O is said when the image is opened to be served.
  if (options.direct == core::DirectIo::automatic) options.direct = core::DirectIo::off;
  plan_mount(options, open_image_file(engine, options, core::Access::read_write));
}

// What an image on this machine is locked with while it is looked at keeps us out too: it is opened once more to be
// served. An export is opened only once, for some servers let nobody in twice.
core::Awaitable<std::string> look_before_writing(core::Engine& engine, const MountOptions& options,
                                                 const OpenedImage& image) {
  std::optional<Waiting> waiting;  // in the background the parent says it
  if (options.foreground) waiting.emplace("looking at " + options.image);
  if (!image.file) co_return why_not_writable(options.image);
  core::BlockingFile file(engine, *image.file);
  auto look = [&] { return why_not_writable(file, options.image); };
  std::string damage = co_await core::run(engine.io(), look);
  co_return damage;
}

void tell_of_damage(const MountOptions& options, const std::string& damage) {
  const std::string sentence = damage + "; mounted read-only until then";
  const bool log_is_terminal = options.foreground && options.log_file.empty();
  if (!log_is_terminal) spdlog::warn("{}", sentence);
  complain(sentence);
}

core::Awaitable<void> serve_image(core::Engine& engine, const MountOptions& options, const OpenedImage& image,
                                  const std::string& damage, const Daemon& daemon) {
  const MountPlan plan = plan_mount(options, image);
  if (!plan.warning.empty()) complain(plan.warning);
  qcow2::ImageOptions how = image_options(options);
  std::optional<qcow2::NamedFiles> others;  // of an image on a server nobody could say where they are
  if (!is_remote(image)) {
    others.emplace(engine, options.image, image.descriptor, named_file_policy(options.named_files, options.direct));
    others->serve(how);
  }
  const std::unique_ptr<core::GuestDisk> disk = co_await qcow2::open_image(engine, *image.file, how);
  if (!damage.empty()) tell_of_damage(options, damage);
  co_await serve(engine, *disk, plan, daemon.startup, daemon.control, daemon.helper);
}

core::Awaitable<void> open_and_serve(core::Engine& engine, MountOptions options, Daemon daemon) {
  const core::Access wanted = access_of(options);
  OpenedImage image;
  std::string damage;
  if (core::is_nbd_uri(options.image)) image = open_image_file(engine, options, wanted);
  if (!options.read_only) {
    if (!image.file) try_all_else(engine, options);
    damage = co_await look_before_writing(engine, options, image);
    options.read_only = !damage.empty();  // a damaged image can still be read
  }
  if (!image.file) image = open_image_file(engine, options, access_of(options));
  co_await serve_image(engine, options, image, damage, daemon);
}

void create_where_missing(const MountOptions& options) {
  if (!options.create_size) return;
  if (core::is_nbd_uri(options.image)) {
    core::fail(core::Errc::bad_argument, options.image + ": no image is created on a server by -o create=SIZE; " +
                                             "qemu-img create -f qcow2 does it");
  }
  create_missing_image(options.image, *options.create_size);
}

// The control outlives the file in here: who listens hears the end of the stream when the image is free.
void mount_and_serve(core::ThreadedEngine& engine, const MountOptions& options, const Daemon& daemon) {
  prepare_mountpoint(options.mountpoint);  // no new file, and no connection, for a mount that cannot be
  create_where_missing(options);
  run_to_end(engine, open_and_serve(engine, options, daemon));
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
      mount_and_serve(engine, options, Daemon{startup, control, helper});
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
