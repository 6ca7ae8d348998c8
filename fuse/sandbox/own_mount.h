// Taking away the mount that a daemon serves, and no other.
#pragma once

#include <string>
#include <vector>

namespace fuse {

struct OwnMount {
  std::string mountpoint;          ///< absolute, canonical
  std::string device;              ///< "major:minor": what tells it from others that may lie there later
  std::vector<std::string> files;  ///< paths of the files it shows
};

struct OwnUnmount {
  enum Outcome {
    done,
    busy,     ///< something uses it
    failed,   ///< `reason` says why
    foreign,  ///< what lies there is not our mount: nothing was done
  } outcome = done;
  bool was_busy = false;  ///< done, but its users see it vanish
  int store_error = 0;    ///< an errno where something that programs changed through mappings could not be stored
  std::string reason;     ///< one line
};

// All of them block, and the daemon must serve meanwhile.

/// Only where nothing uses it.
OwnUnmount unmount_when_idle(const OwnMount& mount);

/// Has what the kernel holds back for it written first: file systems on loop devices, and pages changed through
/// mappings. Is never busy.
OwnUnmount store_and_unmount(const OwnMount& mount);

/// Its users see errors.
OwnUnmount detach(const OwnMount& mount);

}  // namespace fuse
