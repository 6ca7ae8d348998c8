#include "fuse/opened_image.h"

#include <unistd.h>

#include <utility>

#include "core/error.h"
#include "core/file_lock.h"
#include "core/nbd/nbd_export.h"

namespace fuse {
namespace {

std::unique_ptr<core::DirectFile> open_file(core::Engine& engine, const MountOptions& options, core::Access access) {
  try {
    return std::make_unique<core::DirectFile>(engine, options.image, access, options.direct);
  } catch (const core::Error& error) {
    if (error.code() == boost::system::errc::permission_denied) {
      const bool readable = access == core::Access::read_write && ::access(options.image.c_str(), R_OK) == 0;
      const char* const advice = readable ? "; it may be read: -r mounts it read-only" : "; ask its owner, or root";
      core::fail(error.code(), core::describe(error) + advice);
    }
    if (error.code() != boost::system::errc::no_such_file_or_directory) throw;
    const std::string meant =
        options.verb_meant.empty() ? "" : "; did you mean the command qcowfs " + options.verb_meant + "?";
    const std::string advice = meant.empty() ? "; qcowfs create or -o create=SIZE makes one" : meant;
    core::fail(error.code(), core::describe(error) + advice);
  }
}

}  // namespace

OpenedImage open_image_file(core::Engine& engine, const MountOptions& options, core::Access access) {
  OpenedImage image;
  if (core::is_nbd_uri(options.image)) {
    core::NbdExport remote = core::open_nbd_export(engine, options.image, access, options.request_timeout);
    image.file = std::move(remote.file);
    image.name = std::move(remote.name);
    return image;
  }
  std::unique_ptr<core::DirectFile> file = open_file(engine, options, access);
  core::lock_image(file->descriptor(), access, options.image);
  image.descriptor = file->descriptor();
  image.name = options.image;
  image.file = std::move(file);
  return image;
}

}  // namespace fuse
