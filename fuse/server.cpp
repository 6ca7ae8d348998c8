#include "fuse/server.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/async.h"
#include "fuse/closing_progress.h"
#include "fuse/idle_watch.h"
#include "fuse/operations.h"
#include "fuse/receive_buffer.h"
#include "fuse/service_manager.h"
#include "fuse/session.h"
#include "fuse/shown_files.h"

namespace fuse {

namespace asio = boost::asio;

namespace {

// The kernel offers 128 KiB, which are two clusters: too few to decompress them on several processors at
// once. More than this would make every page fault of a mapping read megabytes.
constexpr unsigned read_ahead_kib = 1024;

// Only root may; without it reading is slower.
void raise_read_ahead(const std::string& device) {
  std::ofstream setting("/sys/class/bdi/" + device + "/read_ahead_kb");
  setting << read_ahead_kib << std::flush;
}

// On behalf of a signal; true where the mount is out of the tree. Blocks.
bool store_and_unmount(PrivilegedHelper& helper, const std::string& mountpoint) {
  const OwnUnmount result = helper.store_and_unmount();
  if (result.store_error != 0) spdlog::error("{}: {}", mountpoint, std::strerror(result.store_error));
  if (result.was_busy) spdlog::warn("{}: still in use; its users will see it vanish", mountpoint);
  if (result.outcome == OwnUnmount::failed) spdlog::error("{}: cannot unmount: {}", mountpoint, result.reason);
  return result.outcome == OwnUnmount::done;
}

// Waits for signals as long as the session lives, and ends it when the first one comes. Signals that come
// between its construction and start() are not lost: a mount must not be left behind by a daemon that was
// killed a moment too early.
class SignalWatch {
 public:
  SignalWatch(core::Engine& engine, Session& session, PrivilegedHelper& helper, std::string mountpoint)
      : engine_(engine),
        session_(session),
        helper_(helper),
        mountpoint_(std::move(mountpoint)),
        signals_(engine.executor(), SIGTERM, SIGINT, SIGHUP) {}

  void start() {
    running_ = true;
    asio::co_spawn(engine_.executor(), watch(), core::Supervised{"waiting for signals"});
  }
  /// Must be awaited once started: an unmount that a signal began may still be under way.
  core::Awaitable<void> stop() {
    signals_.cancel();
    while (running_) co_await stopped_.wait();
  }

 private:
  core::Awaitable<void> watch() {
    core::ErrorCode cancelled;
    const int signal = co_await signals_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    if (!cancelled) {
      spdlog::info("{}: {}: storing everything and unmounting", mountpoint_, ::strsignal(signal));
      // A thread of its own: requests that it waits for may need every thread of the engine's pool.
      core::ThreadPool thread(1);
      auto job = [this] { return store_and_unmount(helper_, mountpoint_); };
      const bool gone = co_await core::run(thread, job);
      if (gone) session_.disown_mount();
      session_.end();
    }
    running_ = false;
    stopped_.wake_all();
  }

  core::Engine& engine_;
  Session& session_;
  PrivilegedHelper& helper_;
  std::string mountpoint_;
  asio::signal_set signals_;
  bool running_ = false;
  core::WaitList stopped_;
};

core::Awaitable<void> run_session(Session& session, SignalWatch& signals, IdleWatch& idleness, const MountPlan& plan,
                                  Startup& startup, Control& control) {
  co_await session.live();
  const std::string device = session.device_number();
  if (!device.empty()) {
    raise_read_ahead(device);
    co_await control.listen(device);
  }
  startup.live();
  signals.start();
  idleness.start();
  spdlog::info("{}: mounted", plan.mountpoint);

  co_await session.ended();
  tell_service_manager_stopping();
  control.ending();
  co_await signals.stop();
  co_await idleness.stop();
  spdlog::info("{}: unmounted", plan.mountpoint);
}

std::vector<std::string> paths_of(const ShownFiles& shown, const MountPlan& plan) {
  std::vector<std::string> paths;
  for (const ShownFile& file : shown.files) paths.push_back(plan.path_of(file.name));
  return paths;
}

core::Awaitable<void> mount_and_run(core::Engine& engine, core::GuestDisk& disk, const MountPlan& plan,
                                    Startup& startup, Control& control, PrivilegedHelper& helper) {
  const ShownFiles shown = co_await choose_files(disk, plan);
  Tree tree(plan.shape, shown.files, plan.looks, plan.kernel_cache);
  ReceiveBuffer received;
  Operations operations(engine, disk, tree, received, plan.image_descriptor);
  Session session(engine, operations, received, helper, plan.words);
  SignalWatch signals(engine, session, helper, plan.mountpoint);
  IdleWatch idleness(engine, session, helper, plan, operations.activity());
  session.mount(plan.mountpoint, paths_of(shown, plan));
  session.start();
  std::exception_ptr failure;
  try {
    co_await run_session(session, signals, idleness, plan, startup, control);
  } catch (const std::exception&) {
    failure = std::current_exception();
    session.end();
    control.ending();
  }
  co_await session.ended();
  co_await operations.requests().finished();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

core::Awaitable<void> serve(core::Engine& engine, core::GuestDisk& disk, const MountPlan& plan, Startup& startup,
                            Control& control, PrivilegedHelper& helper) {
  // As long as this lives, a signal that nobody waits for does nothing: whoever stops the system or the service after
  // an unmount must not kill what is still storing.
  const asio::signal_set kept_from_killing(engine.executor(), SIGTERM, SIGINT, SIGHUP);
  std::exception_ptr failure;
  try {
    co_await mount_and_run(engine, disk, plan, startup, control, helper);
  } catch (const std::exception&) {
    failure = std::current_exception();
  }
  ClosingProgress progress(engine, disk, control);
  progress.start();
  try {
    co_await disk.close();
  } catch (const std::exception&) {
    if (!failure) failure = std::current_exception();
  }
  co_await progress.stop();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fuse
