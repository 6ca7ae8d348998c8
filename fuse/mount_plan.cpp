#include "fuse/mount_plan.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "core/error.h"
#include "fuse/mount_table.h"
#include "fuse/unmount.h"

namespace fuse {
namespace {

namespace fs = std::filesystem;

struct stat look_at(const std::string& mountpoint) {
  struct stat facts {};
  const int error = ::stat(mountpoint.c_str(), &facts) == 0 ? 0 : errno;
  if (daemon_died(mountpoint)) {
    core::fail(core::Errc::bad_argument, mountpoint + ": an earlier mount died here; run: qcowfs umount " + mountpoint +
                                             "   (or: fusermount3 -u " + mountpoint + ")");
  }
  if (error != 0) core::fail_errno(error, mountpoint + ": cannot use the mount point");
  return facts;
}

Appearance looks_of(const MountOptions& options, const struct stat& image) {
  Appearance looks;
  looks.permissions = image.st_mode & 0666 & ~options.umask;
  if (options.read_only) looks.permissions &= 0444;
  looks.uid = options.uid.value_or(::geteuid());
  looks.gid = options.gid.value_or(::getegid());
  looks.accessed = image.st_atim;
  looks.modified = image.st_mtim;
  looks.changed = image.st_ctim;
  return looks;
}

std::vector<std::string> words_for(const MountOptions& options, const fs::path& image) {
  std::vector<std::string> words = options.mount_flags;
  words.push_back("default_permissions");
  words.push_back("fsname=" + (options.fsname.empty() ? image.string() : options.fsname));
  words.push_back("subtype=" + options.subtype);
  if (options.read_only) words.push_back("ro");
  if (options.allow_other) words.push_back("allow_other");
  if (options.allow_root) words.push_back("allow_root");
  if (options.debug) words.push_back("debug");
  return words;
}

// An image under its own mount would hide itself, and whatever came to need its path would wait for itself.
void refuse_image_below(const fs::path& image, const struct stat& image_facts, const std::string& mountpoint,
                        const struct stat& mountpoint_facts) {
  const bool same = image_facts.st_dev == mountpoint_facts.st_dev && image_facts.st_ino == mountpoint_facts.st_ino;
  const fs::path below = image.lexically_relative(mountpoint);
  if (same || (!below.empty() && *below.begin() != "..")) {
    core::fail(core::Errc::bad_argument,
               mountpoint + ": the image " + image.string() + " lies under this mount point; choose another one");
  }
}

}  // namespace

std::string disk_name_for(const std::string& image_path) {
  fs::path name = fs::path(image_path).filename();
  if (name.extension() == ".qcow2") name.replace_extension();
  name += ".raw";
  return name.string();
}

MountPlan plan_mount(const MountOptions& options, int image_descriptor) {
  MountPlan plan;
  plan.mountpoint = canonical_mountpoint(options.mountpoint);
  const struct stat mountpoint_facts = look_at(plan.mountpoint);
  if (!S_ISDIR(mountpoint_facts.st_mode) && !S_ISREG(mountpoint_facts.st_mode)) {
    core::fail(core::Errc::bad_argument, plan.mountpoint + ": the mount point is neither a directory nor a file");
  }
  struct stat image_facts {};
  if (::fstat(image_descriptor, &image_facts) != 0) core::fail_errno(errno, options.image + ": cannot stat the image");
  std::error_code code;
  const fs::path image = fs::canonical(options.image, code);
  if (code) core::fail_errno(code.value(), options.image + ": cannot find the image");
  refuse_image_below(image, image_facts, plan.mountpoint, mountpoint_facts);

  plan.shape = S_ISREG(mountpoint_facts.st_mode) ? MountShape::file : MountShape::directory;
  if (plan.shape == MountShape::file && options.partitions.all) {
    core::fail(core::Errc::bad_argument, plan.mountpoint + ": a file can show one partition only: -o partition=N, " +
                                             "or choose a directory as the mount point");
  }
  plan.disk_name = disk_name_for(options.image);
  plan.image = options.image;
  plan.partitions = options.partitions;
  plan.looks = looks_of(options, image_facts);
  if (options.writeback_cache) plan.kernel_cache = KernelCache::write_back;
  plan.words = words_for(options, image);
  plan.image_descriptor = image_descriptor;
  return plan;
}

}  // namespace fuse
