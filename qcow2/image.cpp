#include "qcow2/image.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <cerrno>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/check.h"
#include "core/fail_stop.h"
#include "qcow2/disk.h"
#include "qcow2/snapshots.h"

namespace qcow2 {
namespace {

// A file that was cut short must not be taken for an empty disk: what lies beyond its end would read as zeros.
void require_tables_within_file(const Header& header, std::uint64_t file_size, const std::string& name) {
  const std::uint64_t l1_end = header.l1_table.value + std::uint64_t{header.l1_entries} * 8;
  const std::uint64_t refcounts_end = header.refcount_table.value + 8;
  if (std::max(header.l1_entries == 0 ? 0 : l1_end, refcounts_end) > file_size) {
    core::fail(core::Errc::corrupt_image, name + ": the image file ends before its tables; it was cut short");
  }
}

// What a writer that does not keep them up to date must clear before its first write.
core::Awaitable<void> clear_autoclear_features(core::BlockFile& file, HeaderSector& sector, const Header& header,
                                               const std::string& name) {
  const std::uint64_t kept = header.geometry.raw_data ? autoclear::raw_external_data : 0;
  const std::uint64_t cleared = header.autoclear_features & ~kept;
  if (header.version < 3 || cleared == 0) co_return;
  spdlog::warn("{}: clearing autoclear features {:#x} (such as dirty bitmaps), which are not maintained here", name,
               cleared);
  auto change = [kept](core::MutableBytes bytes) {
    core::store_big_endian(bytes, header_field::autoclear_features, kept);
  };
  co_await sector.update(change);
  co_await file.barrier();  // ---- below this line the content may change: nobody takes their word for it any more
}

core::Awaitable<std::unique_ptr<core::GuestDisk>> open_backing(const BackingReference& reference,
                                                               const ImageOptions& options) {
  if (!options.open_backing) {
    core::fail(core::Errc::unsupported_feature, options.name + ": it has a backing file, " + reference.name);
  }
  std::unique_ptr<core::GuestDisk> backing = co_await options.open_backing(reference);
  co_return backing;
}

std::unique_ptr<core::BlockFile> open_data_file(const std::string& file, const ImageOptions& options) {
  if (file.empty()) {
    core::fail(core::Errc::corrupt_image, options.name + ": it does not name the external data file that it needs");
  }
  if (options.open_data_file) return options.open_data_file(file);
  core::fail(core::Errc::unsupported_feature, options.name + ": its data are in an external data file, " + file);
}

}  // namespace

core::Awaitable<std::unique_ptr<core::GuestDisk>> open_image(core::Engine& engine, core::BlockFile& file,
                                                             ImageOptions options) {
  const std::uint64_t length = std::min<std::uint64_t>(file.size(), header_bytes_switched);
  core::Buffer first_sector(header_bytes_switched);
  co_await file.read_at(HostOffset{0}, first_sector.span());
  Header header = parse_header(first_sector.span().first(length), options.name);
  refuse_unserved(header, !options.read_only, options.name);
  if (!options.snapshot.empty()) {
    CHECK(options.read_only);
    const std::vector<Snapshot> snapshots = co_await read_snapshots(file, header, options.name);
    header = header_at_snapshot(header, snapshots, options.snapshot, options.name);
  }

  core::Buffer first_cluster(header.geometry.cluster_size());
  co_await file.read_at(HostOffset{0}, first_cluster.span());
  require_tables_within_file(header, file.size(), options.name);
  const std::optional<BackingReference> reference = find_backing(header, first_cluster.span(), options.name);
  std::unique_ptr<core::GuestDisk> backing;
  if (reference) backing = co_await open_backing(*reference, options);

  std::unique_ptr<core::BlockFile> data;
  if (header.geometry.external_data) {
    data = open_data_file(find_data_file(header, first_cluster.span(), options.name), options);
  }

  auto disk = std::make_unique<Disk>(engine, file, header, std::move(first_sector), std::move(data), std::move(backing),
                                     options);
  try {
    co_await disk->open();
    if (!options.read_only) co_await clear_autoclear_features(file, disk->header_sector(), header, options.name);
  } catch (const core::Error& error) {
    core::fail(error.code(), options.name + ": " + core::describe(error));
  }
  disk->start();
  co_return disk;
}

}  // namespace qcow2
