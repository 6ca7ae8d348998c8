#include "qcow2/named_files.h"

#include <algorithm>

#include "core/file_lock.h"
#include "core/raw_disk.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t cache_size_min = 1 << 20;

}  // namespace

void NamedFiles::serve(ImageOptions& options) {
  const std::string path = options.name;
  const core::Access access = options.read_only ? core::Access::read_only : core::Access::read_write;
  options.open_backing = [this, path, cache_size = options.cache_size / 2](BackingReference reference) {
    return open(path, std::move(reference), cache_size);
  };
  options.open_data_file = [this, path, access](const std::string& name) {
    return open_file(search_.find_data_file(path, name, access), access);
  };
}

core::Awaitable<std::unique_ptr<core::GuestDisk>> NamedFiles::open(std::string image, BackingReference reference,
                                                                   std::uint64_t cache_size) {
  const FoundBacking found = search_.find_backing_file(image, reference);
  std::unique_ptr<core::DirectFile> file = open_file(found, core::Access::read_only);
  if (found.format == ImageFormat::raw) co_return std::make_unique<core::RawDisk>(engine_, std::move(file));

  ImageOptions options;
  options.read_only = true;
  options.name = found.path;
  options.cache_size = std::max(cache_size / 2, cache_size_min);
  serve(options);
  files_.push_back(std::move(file));
  std::unique_ptr<core::GuestDisk> disk = co_await open_image(engine_, *files_.back(), options);
  co_return disk;
}

std::unique_ptr<core::DirectFile> NamedFiles::open_file(const FoundFile& found, core::Access access) {
  auto file = std::make_unique<core::DirectFile>(engine_, found.same_file(), access, search_.direct(), found.path);
  core::lock_image(file->descriptor(), access, found.path);
  return file;
}

}  // namespace qcow2
