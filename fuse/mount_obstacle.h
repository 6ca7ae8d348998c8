// Why the kernel or fusermount3 would not mount, in words that say what to do.
#pragma once

#include <string>

namespace fuse {

/// To be asked after a failure. `said` is libfuse's or fusermount3's last line, which is the answer where nothing
/// better is known.
std::string explain_mount_failure(const std::string& said);

}  // namespace fuse
