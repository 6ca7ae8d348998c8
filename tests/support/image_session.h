// An image opened the way the daemon opens it, driven from a test that is no coroutine.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/use_future.hpp>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/direct_file.h"
#include "core/engine.h"
#include "core/guest_disk.h"
#include "qcow2/image.h"

namespace test {

/// A folder of its own that goes away with it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Runs a shell command; its exit status, and what it printed.
struct CommandResult {
  int status = 0;
  std::string output;
};
CommandResult run_command(const std::string& command);

/// A block device over a file, until this object is gone. Throws std::runtime_error where none can be had.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file);
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Real threads, a real file, or a real server of one: then `path` is an NBD URI. Every call waits until its coroutine
/// has ended, and throws what it threw.
class ImageSession {
 public:
  ImageSession(const std::string& path, qcow2::ImageOptions options, std::size_t workers = 2,
               core::DirectIo direct = core::DirectIo::automatic);
  ~ImageSession();

  core::GuestDisk& disk() { return *disk_; }
  std::vector<std::byte> read(std::uint64_t at, std::uint64_t length);
  void write(std::uint64_t at, const std::vector<std::byte>& bytes);
  void zero(std::uint64_t at, std::uint64_t length) { call(disk_->zero(core::DiskOffset{at}, length)); }
  void resize(std::uint64_t size) { call(disk_->resize(size)); }
  void flush() { call(disk_->flush()); }
  std::uint64_t next_data(std::uint64_t at) { return call(disk_->next_data(core::DiskOffset{at})); }
  std::uint64_t next_hole(std::uint64_t at) { return call(disk_->next_hole(core::DiskOffset{at})); }
  void close();

  /// Begins it; what is done meanwhile is done beside it.
  std::future<void> start(core::Awaitable<void> task) {
    return boost::asio::co_spawn(engine_.executor(), std::move(task), boost::asio::use_future);
  }

  template <class Value>
  Value call(core::Awaitable<Value> task) {
    return boost::asio::co_spawn(engine_.executor(), std::move(task), boost::asio::use_future).get();
  }

 private:
  core::ThreadedEngine engine_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread strand_;
  std::unique_ptr<core::BlockFile> file_;
  std::unique_ptr<core::GuestDisk> disk_;
  bool closed_ = false;
};

}  // namespace test
