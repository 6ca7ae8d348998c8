// `qcowfs create`: an empty image, or one that shows another file until it is written.
#include <exception>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "fuse/progress.h"
#include "fuse/unfinished_file.h"
#include "fuse/verbs.h"
#include "qcow2/create.h"
#include "qcow2/info.h"

namespace fuse {
namespace {

// As the image will find it: a backing file that is not there now is a mistake now.
std::uint64_t size_of_backing(const CreateOptions& options) {
  const std::filesystem::path path = std::filesystem::path(options.image).parent_path() / options.backing;
  if (options.backing_format == "qcow2") return qcow2::read_info(path.string()).virtual_size;
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) core::fail(core::Errc::bad_argument, path.string() + ": " + error.message());
  return (size + 511) / 512 * 512;  // as it is shown
}

qcow2::Preallocation preallocation_of(const CreateOptions& options) {
  switch (options.preallocation) {
    case Preallocation::off: return qcow2::Preallocation::off;
    case Preallocation::metadata: return qcow2::Preallocation::metadata;
    case Preallocation::falloc: return qcow2::Preallocation::falloc;
    case Preallocation::full: return qcow2::Preallocation::full;
  }
  return qcow2::Preallocation::off;
}

qcow2::CreateOptions image_options(const CreateOptions& options) {
  qcow2::CreateOptions image;
  image.cluster_size = options.cluster_size.value_or(image.cluster_size);
  image.refcount_bits = options.refcount_bits.value_or(image.refcount_bits);
  image.compression =
      options.compression == Compression::zstd ? qcow2::CompressionType::zstd : qcow2::CompressionType::zlib;
  image.extended_l2 = options.extended_l2;
  image.version = options.version_2 ? 2 : 3;
  image.preallocation = preallocation_of(options);
  if (options.backing.empty()) {
    image.size = options.size.value_or(0);
  } else {
    const std::uint64_t below = size_of_backing(options);
    image.size = options.size.value_or(below);
    image.backing = qcow2::BackingReference{options.backing, options.backing_format};
  }
  return image;
}

// It may take long, and then be interrupted.
void create_preallocated(const std::string& path, qcow2::CreateOptions image) {
  UnfinishedFile file(path);
  image.name = path;
  std::optional<Progress> progress;
  qcow2::create_image(file.temporary_path(), image, [&progress](std::uint64_t position, std::uint64_t end) {
    if (!progress) progress.emplace(end);
    progress->reached(position);
  });
  progress.reset();
  file.publish();
}

// Whoever says "create" may mean a file: what a device holds is not given up for a slip of the hand.
void refuse_block_device(const std::string& path) {
  if (!std::filesystem::is_block_file(path)) return;
  core::fail(core::Errc::bad_argument, path + ": a block device is not overwritten; if nothing on it is needed, " +
                                           "qemu-img create -f qcow2 " + path + " SIZE makes an image there");
}

void create(const CreateOptions& options) {
  refuse_block_device(options.image);
  const qcow2::CreateOptions image = image_options(options);
  if (image.preallocation == qcow2::Preallocation::off) {
    qcow2::create_image(options.image, image);
  } else {
    create_preallocated(options.image, image);
  }
}

}  // namespace

int run_create(const CreateOptions& options) {
  try {
    create(options);
    return exit_success;
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
