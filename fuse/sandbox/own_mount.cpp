#include "fuse/sandbox/own_mount.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "core/unique_fd.h"
#include "fuse/loop_devices.h"
#include "fuse/mount_table.h"
#include "fuse/unmount.h"

namespace fuse {
namespace {

// Pages that programs changed through mappings are with the kernel, and go with their files' inodes: these are held
// open while the mount is taken away.
class HeldFiles {
 public:
  explicit HeldFiles(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) files_.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  }
  /// 0, or an errno where one could not be stored.
  int store() const {
    int error = 0;
    for (const core::UniqueFd& file : files_) {
      if (file.valid() && ::fsync(file.get()) != 0) error = errno;
    }
    return error;
  }

 private:
  std::vector<core::UniqueFd> files_;
};

// As long as the mount exists nobody else has its device number.
bool lies_on_top(const OwnMount& mount) {
  const std::optional<MountEntry> entry = find_mount(mount.mountpoint);
  return entry && entry->device == mount.device;
}

OwnUnmount take_away(const OwnMount& mount, Unmount how) {
  if (!lies_on_top(mount)) return {.outcome = OwnUnmount::foreign, .reason = {}};
  UnmountResult result = unmount(mount.mountpoint, how);
  switch (result.outcome) {
    case UnmountResult::done: return {};
    case UnmountResult::busy: return {.outcome = OwnUnmount::busy, .reason = {}};
    case UnmountResult::failed: break;
  }
  return {.outcome = OwnUnmount::failed, .reason = std::move(result.reason)};
}

}  // namespace

OwnUnmount unmount_when_idle(const OwnMount& mount) { return take_away(mount, Unmount::when_idle); }

OwnUnmount detach(const OwnMount& mount) { return take_away(mount, Unmount::detach); }

OwnUnmount store_and_unmount(const OwnMount& mount) {
  if (!lies_on_top(mount)) return {.outcome = OwnUnmount::foreign, .reason = {}};
  sync_file_systems_on(loop_devices_over(mount.mountpoint));
  const int store_error = HeldFiles(mount.files).store();

  OwnUnmount result = unmount_when_idle(mount);
  if (result.outcome == OwnUnmount::busy) {
    const HeldFiles held(mount.files);
    result = detach(mount);
    result.was_busy = true;
    held.store();  // what came in between
  }
  result.store_error = store_error;
  return result;
}

}  // namespace fuse
