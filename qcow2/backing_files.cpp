#include "qcow2/backing_files.h"

#include <algorithm>

#include "core/file_lock.h"
#include "core/raw_disk.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t cache_size_min = 1 << 20;

}  // namespace

BackingFiles::BackingFiles(core::Engine& engine, const std::string& image, int descriptor, BackingPolicy policy)
    : engine_(engine), direct_(policy.direct), search_(image, descriptor, std::move(policy)) {}

std::function<core::Awaitable<std::unique_ptr<core::GuestDisk>>(BackingReference)> BackingFiles::opener(
    const std::string& path, std::uint64_t cache_size) {
  return [this, path, cache_size](BackingReference reference) { return open(path, std::move(reference), cache_size); };
}

core::Awaitable<std::unique_ptr<core::GuestDisk>> BackingFiles::open(std::string image, BackingReference reference,
                                                                     std::uint64_t cache_size) {
  const FoundBacking found = search_.find(image, reference);
  const core::Access access = core::Access::read_only;
  auto file = std::make_unique<core::DirectFile>(engine_, found.same_file(), access, direct_, found.path);
  core::lock_image(file->descriptor(), access, found.path);
  if (found.format == ImageFormat::raw) co_return std::make_unique<core::RawDisk>(engine_, std::move(file));

  ImageOptions options;
  options.read_only = true;
  options.name = found.path;
  options.cache_size = std::max(cache_size / 2, cache_size_min);
  options.open_backing = opener(found.path, cache_size / 2);
  files_.push_back(std::move(file));
  std::unique_ptr<core::GuestDisk> disk = co_await open_image(engine_, *files_.back(), options);
  co_return disk;
}

}  // namespace qcow2
