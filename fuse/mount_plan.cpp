#include "fuse/mount_plan.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <filesystem>

#include "core/error.h"
#include "fuse/mount_table.h"
#include "fuse/unmount.h"

namespace fuse {
namespace {

namespace fs = std::filesystem;

constexpr int dead_mounts_max = 64;  // one on top of the other

// What a killed daemon left behind answers nothing but ENOTCONN.
void take_dead_mounts_away(const std::string& mountpoint) {
  for (int count = 0; count < dead_mounts_max && daemon_died(mountpoint); ++count) {
    const std::optional<MountEntry> entry = find_mount(mountpoint);
    const bool ours = entry && entry->type == "fuse.qcowfs";
    const UnmountResult result =
        ours ? unmount(mountpoint, Unmount::detach) : UnmountResult{UnmountResult::failed, "not a mount of qcowfs"};
    if (result.outcome != UnmountResult::done) {
      core::fail(core::Errc::bad_argument, mountpoint + ": a mount whose daemon died is in the way (" + result.reason +
                                               "); take it away as its owner or as root: fusermount3 -u " + mountpoint);
    }
    spdlog::warn("{}: took an earlier mount away whose daemon had died; what that had not stored is lost", mountpoint);
  }
}

// A second mount on top would hide the first, which then nobody could reach, or unmount.
void refuse_mount_on_mount(const std::string& mountpoint) {
  const std::optional<MountEntry> entry = find_mount(mountpoint);
  if (!entry || entry->type != "fuse.qcowfs") return;
  core::fail(core::Errc::bad_argument, mountpoint + ": busy, " + entry->source +
                                           " is mounted here already; unmount that first (qcowfs umount " + mountpoint +
                                           "), or choose another mount point");
}

struct stat look_at(const std::string& mountpoint) {
  struct stat facts {};
  if (::stat(mountpoint.c_str(), &facts) != 0) core::fail_errno(errno, mountpoint + ": cannot use the mount point");
  return facts;
}

// Of an image on a server nobody here knows more than that whoever mounts it may have it.
struct stat facts_of(const MountOptions& options, const OpenedImage& image) {
  struct stat facts {};
  if (is_remote(image)) {
    facts.st_mode = 0600;
    ::clock_gettime(CLOCK_REALTIME, &facts.st_mtim);
    facts.st_atim = facts.st_ctim = facts.st_mtim;
  } else if (::fstat(image.descriptor, &facts) != 0) {
    core::fail_errno(errno, options.image + ": cannot stat the image");
  }
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

std::string hides_files(const std::string& mountpoint) {
  return mountpoint + ": not empty: what is in it is hidden until the unmount (-o nonempty: no such warning)";
}

std::vector<std::string> words_for(const MountOptions& options, const std::string& source) {
  std::vector<std::string> words = options.mount_flags;
  words.push_back("default_permissions");
  words.push_back("fsname=" + (options.fsname.empty() ? source : options.fsname));
  words.push_back("subtype=" + options.subtype);
  if (options.read_only) words.push_back("ro");
  if (options.allow_other) words.push_back("allow_other");
  if (options.allow_root) words.push_back("allow_root");
  if (options.debug) words.push_back("debug");
  return words;
}

fs::path canonical_image(const std::string& path) {
  std::error_code code;
  const fs::path canonical = fs::canonical(path, code);
  if (code) core::fail_errno(code.value(), path + ": cannot find the image");
  return canonical;
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

std::string disk_name_for(const std::string& image_name) {
  fs::path name = fs::path(image_name).filename();
  if (name.empty()) name = "disk";
  if (name.extension() == ".qcow2") name.replace_extension();
  name += ".raw";
  return name.string();
}

std::string prepare_mountpoint(const std::string& path) {
  std::string mountpoint = canonical_mountpoint(path);
  take_dead_mounts_away(mountpoint);
  refuse_mount_on_mount(mountpoint);
  const struct stat facts = look_at(mountpoint);
  if (!S_ISDIR(facts.st_mode) && !S_ISREG(facts.st_mode)) {
    core::fail(core::Errc::bad_argument, mountpoint + ": the mount point is neither a directory nor a file");
  }
  return mountpoint;
}

MountPlan plan_mount(const MountOptions& options, const OpenedImage& image) {
  MountPlan plan;
  plan.mountpoint = prepare_mountpoint(options.mountpoint);
  const struct stat mountpoint_facts = look_at(plan.mountpoint);
  const struct stat image_facts = facts_of(options, image);
  std::string source = options.image;
  if (!is_remote(image)) {
    const fs::path path = canonical_image(options.image);
    refuse_image_below(path, image_facts, plan.mountpoint, mountpoint_facts);
    source = path.string();
  }

  if (S_ISDIR(mountpoint_facts.st_mode) && !options.over_non_empty) {
    std::error_code unreadable;
    const bool empty = fs::is_empty(plan.mountpoint, unreadable);
    if (!unreadable && !empty) plan.warning = hides_files(plan.mountpoint);
  }
  plan.shape = S_ISREG(mountpoint_facts.st_mode) ? MountShape::file : MountShape::directory;
  if (plan.shape == MountShape::file && options.partitions.all) {
    core::fail(core::Errc::bad_argument, plan.mountpoint + ": a file can show one partition only: -o partition=N, " +
                                             "or choose a directory as the mount point");
  }
  plan.disk_name = disk_name_for(image.name);
  plan.image = options.image;
  plan.partitions = options.partitions;
  plan.looks = looks_of(options, image_facts);
  if (options.writeback_cache) plan.kernel_cache = KernelCache::write_back;
  plan.words = words_for(options, source);
  plan.image_descriptor = image.descriptor;
  plan.idle_seconds = options.idle_seconds;
  return plan;
}

}  // namespace fuse
