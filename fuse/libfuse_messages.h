// What libfuse and fusermount3 have to say, for our own one line about it.
#pragma once

#include <string>

#include "core/unique_fd.h"

namespace fuse {

/// While it lives, collects libfuse's messages and whatever is written to stderr, where fusermount3 (the
/// program that mounts for those who may not) complains. Afterwards libfuse's messages go to the log.
class LibfuseMessages {
 public:
  LibfuseMessages();
  ~LibfuseMessages();
  LibfuseMessages(const LibfuseMessages&) = delete;
  LibfuseMessages& operator=(const LibfuseMessages&) = delete;

  /// The last line said, without the name of who said it.
  std::string last_line() const;

 private:
  core::UniqueFd collected_;
  core::UniqueFd stderr_;
};

}  // namespace fuse
