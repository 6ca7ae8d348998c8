// Where an image is to be shown and how it looks there, settled before anything is mounted.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fuse/opened_image.h"
#include "fuse/options.h"
#include "fuse/tree.h"

namespace fuse {

struct MountPlan {
  std::string mountpoint;  ///< absolute
  MountShape shape = MountShape::directory;
  std::string disk_name;       ///< of the file in a directory mount that shows the whole disk
  std::string image;           ///< as it was given
  PartitionChoice partitions;  ///< what is shown instead
  Appearance looks;            ///< of the disk
  KernelCache kernel_cache = KernelCache::write_through;
  std::vector<std::string> words;  ///< mount options as libfuse knows them
  int image_descriptor = -1;       ///< borrowed; none where the image lies on a server
  std::optional<unsigned> idle_seconds;
  std::string warning;  ///< one line for whoever mounts; empty: none

  /// What a file that is shown by this name is called from outside.
  std::string path_of(const std::string& name) const {
    return shape == MountShape::file ? mountpoint : mountpoint + "/" + name;
  }
};

/// "disk.qcow2" is shown as "disk.raw", and so is an export without a name.
std::string disk_name_for(const std::string& image_name);

/// A path that can be mounted on: what is left there of mounts whose daemons died is taken away. Its canonical form.
/// Throws core::Error with one line where it cannot.
std::string prepare_mountpoint(const std::string& path);

/// Looks at the image and at the mount point. Throws core::Error with one line where it cannot
/// work.
MountPlan plan_mount(const MountOptions& options, const OpenedImage& image);

}  // namespace fuse
