// `qcowfs create`: an empty image.
#include <exception>

#include "core/error.h"
#include "fuse/verbs.h"
#include "qcow2/create.h"

namespace fuse {

int run_create(const CreateOptions& options) {
  qcow2::CreateOptions image;
  image.size = options.size;
  image.cluster_size = options.cluster_size.value_or(image.cluster_size);
  image.compression =
      options.compression == Compression::zstd ? qcow2::CompressionType::zstd : qcow2::CompressionType::zlib;
  try {
    qcow2::create_image(options.image, image);
    return exit_success;
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
