// How `qcowfs umount` learns how it ended: the daemon's side of a local socket that is named after the mount.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "core/block_file.h"
#include "core/engine.h"
#include "core/unique_fd.h"

namespace fuse {

/// Lifetime   The listeners' sockets close with it: it must outlive the image file.
/// Threads    The engine's.
class Control {
 public:
  explicit Control(core::Engine& engine);
  ~Control();

  /// Waits a little for an old daemon to let go of the name. Logs why, where it cannot listen: the mount
  /// works anyway.
  core::Awaitable<void> listen(const std::string& device);
  /// Tells everybody who asked in time that the mount is gone, and lets nobody in any more.
  void ending();
  /// Tells them how many bytes wait to be stored.
  void left(std::uint64_t bytes);
  /// Tells them the result: empty where all is stored, else the reason.
  void finish(const std::string& failure);

 private:
  core::Awaitable<void> accept_until_closed();
  void accept_waiting();
  void tell(const std::string& line);

  core::Engine& engine_;
  boost::asio::posix::stream_descriptor acceptor_;
  std::vector<core::UniqueFd> listeners_;
};

}  // namespace fuse
