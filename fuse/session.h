// One FUSE mount: mounts, reads the kernel's requests on the engine, and knows when the mount has ended.
#pragma once

#include <sys/types.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>
#include <string>
#include <vector>

#include "core/async.h"
#include "core/engine.h"
#include "fuse/operations.h"
#include "fuse/receive_buffer.h"
#include "fuse/sandbox/privileged_helper.h"

struct iovec;

namespace fuse {

/// Lifetime   `operations`, `received` and `helper` must outlive it. Once start() was called, ended() must be awaited
/// before
///            destruction. A mount that is still there then is detached, and whoever still uses it sees
///            errors.
/// Threads    The engine's.
class Session {
 public:
  /// `words` are single options as libfuse knows them: "fsname=/a,b", "nodev". Throws core::Error.
  Session(core::Engine& engine, Operations& operations, ReceiveBuffer& received, PrivilegedHelper& helper,
          const std::vector<std::string>& words);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// `shown` are the paths of the files it will show. Throws core::Error with one line that names the mount point.
  void mount(const std::string& mountpoint, std::vector<std::string> shown);

  /// Starts to receive. The kernel's first request comes without further ado.
  void start();
  /// Returns once the kernel's greeting was answered. Throws core::Error where the session ended before.
  core::Awaitable<void> live();
  /// Returns once no more requests come: the mount is gone, or end() was called.
  core::Awaitable<void> ended();
  /// Stops receiving.
  void end();
  /// Says that somebody took the mount away: what lies at the mount point from now on is another's.
  void disown_mount() { mount_is_ours_ = false; }

  /// "major:minor" of the mount; empty where the kernel's list does not show it.
  const std::string& device_number() const { return device_number_; }

 private:
  static ssize_t write_reply(int device, iovec* pieces, int count, void* operations);
  core::Awaitable<void> receive();
  bool process_waiting_requests();
  void disconnect();

  struct Destroy {
    void operator()(fuse_session* session) const { fuse_session_destroy(session); }
  };

  core::Engine& engine_;
  Operations& operations_;
  ReceiveBuffer& received_;
  PrivilegedHelper& helper_;
  std::unique_ptr<fuse_session, Destroy> session_;
  std::string mountpoint_;
  std::string device_number_;
  boost::asio::posix::stream_descriptor device_;
  bool mounted_ = false;
  bool mount_is_ours_ = false;
  bool receiving_ = false;
  bool ending_ = false;
  core::WaitList changed_;  ///< the greeting was answered, or receiving ended
};

}  // namespace fuse
