// Exactly one answer to one request of the kernel.
#pragma once

#include <cerrno>
#include <string>
#include <utility>

#include "core/bytes.h"
#include "core/check.h"
#include "fuse/libfuse.h"

namespace fuse {

/// Answering consumes it; a second answer aborts, and a reply that is lost on the way answers EIO, as a
/// program would wait for ever otherwise. What the kernel says to an answer does not matter: it fails where
/// the asker has gone. Threads    Any, one at a time.
class Reply {
 public:
  explicit Reply(fuse_req_t request) : request_(request) {}
  Reply(Reply&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply() {
    if (request_ != nullptr) fuse_reply_err(request_, EIO);
  }

  bool answered() const { return request_ == nullptr; }

  void done() { fuse_reply_err(take(), 0); }
  void error(int error_number) { fuse_reply_err(take(), error_number); }
  void entry(const fuse_entry_param& entry) { fuse_reply_entry(take(), &entry); }
  void attributes(const struct stat& facts, double valid_s) { fuse_reply_attr(take(), &facts, valid_s); }
  /// False where the asker has gone: there is nothing to release later.
  bool opened(const fuse_file_info& file) { return fuse_reply_open(take(), &file) == 0; }
  void bytes(core::Bytes content) {
    fuse_reply_buf(take(), reinterpret_cast<const char*>(content.data()), content.size());
  }
  /// An extended attribute, or the list of their names: its size where that is what is asked for, by no room at all.
  void attribute(const std::string& value, std::size_t room) {
    if (room == 0) {
      fuse_reply_xattr(take(), value.size());
    } else if (value.size() > room) {
      error(ERANGE);
    } else {
      fuse_reply_buf(take(), value.data(), value.size());
    }
  }
  void written(std::size_t count) { fuse_reply_write(take(), count); }
  void statistics(const struct statvfs& facts) { fuse_reply_statfs(take(), &facts); }
  void position(std::uint64_t at) { fuse_reply_lseek(take(), static_cast<off_t>(at)); }

 private:
  fuse_req_t take() {
    CHECK(request_ != nullptr);
    return std::exchange(request_, nullptr);
  }

  fuse_req_t request_;
};

}  // namespace fuse
