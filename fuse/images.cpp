#include "fuse/images.h"

#include <filesystem>

#include "core/file_lock.h"
#include "core/nbd/nbd_export.h"
#include "core/raw_disk.h"
#include "fuse/image_format.h"
#include "fuse/named_file_policy.h"
#include "fuse/unfinished_file.h"
#include "qcow2/create.h"
#include "qcow2/image.h"
#include "qcow2/named_files.h"

namespace fuse {
namespace {

constexpr unsigned commit_interval_ms = 3600 * 1000;  // an unfinished target has no use for being durable

core::Awaitable<OpenDisk> open_qcow2(core::Engine& engine, std::unique_ptr<core::BlockFile> file,
                                     qcow2::ImageOptions options) {
  OpenDisk open;
  open.file = std::move(file);
  open.disk = co_await qcow2::open_image(engine, *open.file, options);
  co_return open;
}

core::Awaitable<std::unique_ptr<Source>> open_remote_source(core::Engine& engine, std::string uri,
                                                            std::string snapshot) {
  core::NbdExport remote = core::open_nbd_export(engine, uri, core::Access::read_only, request_timeout_default);
  const ImageFormat format = co_await detect_format(*remote.file);
  if (format == ImageFormat::raw) {
    core::fail(core::Errc::bad_argument, uri + ": not a qcow2 image; of those that are on a server only such are read");
  }
  qcow2::ImageOptions options;
  options.name = uri;
  options.read_only = true;
  options.snapshot = snapshot;
  OpenDisk open = co_await open_qcow2(engine, std::move(remote.file), options);
  co_return std::make_unique<Source>(std::move(uri), format, std::move(open));
}

}  // namespace

void create_missing_image(const std::string& path, std::uint64_t size) {
  std::error_code unknown;  // then the attempt tells
  if (std::filesystem::exists(std::filesystem::symlink_status(path, unknown))) return;
  UnfinishedFile file(path, UnfinishedFile::Existing::kept);
  qcow2::CreateOptions options;
  options.size = size;
  options.name = path;
  try {
    qcow2::create_image(file.temporary_path(), options);
  } catch (const core::Error& error) {
    fail_by_name(path, error);
  }
  file.publish();
}

core::Awaitable<std::unique_ptr<Source>> open_source(core::Engine& engine, std::string path,
                                                     std::optional<ImageFormat> format, NamedFileOptions named,
                                                     std::string snapshot) {
  if (core::is_nbd_uri(path)) {
    std::unique_ptr<Source> source = co_await open_remote_source(engine, std::move(path), std::move(snapshot));
    co_return source;
  }
  const core::Access access = core::Access::read_only;
  auto file = std::make_unique<core::DirectFile>(engine, path, access, core::DirectIo::automatic);
  core::lock_image(file->descriptor(), access, path);
  if (!format) format = co_await detect_format(*file);
  OpenDisk open;
  if (*format == ImageFormat::raw) {
    if (!snapshot.empty()) core::fail(core::Errc::bad_argument, path + ": a raw image has no snapshots");
    open.disk = std::make_unique<core::RawDisk>(engine, std::move(file));
  } else {
    qcow2::ImageOptions options;
    options.name = path;
    options.read_only = true;
    options.snapshot = snapshot;
    const auto others = std::make_shared<qcow2::NamedFiles>(engine, path, file->descriptor(),
                                                            named_file_policy(named, core::DirectIo::automatic));
    others->serve(options);
    open = co_await open_qcow2(engine, std::move(file), options);
    open.others = others;
  }
  co_return std::make_unique<Source>(std::move(path), *format, std::move(open));
}

core::Awaitable<OpenDisk> create_target_image(core::Engine& engine, const std::string& path,
                                              const ConvertOptions& options, std::uint64_t size) {
  const bool zstd = options.compression == Compression::zstd;
  qcow2::CreateOptions create;
  create.name = options.target;
  create.size = size;
  create.cluster_size = options.cluster_size.value_or(create.cluster_size);
  create.compression = zstd ? qcow2::CompressionType::zstd : qcow2::CompressionType::zlib;
  qcow2::create_image(path, create);

  const core::Access access = core::Access::read_write;
  auto file = std::make_unique<core::DirectFile>(engine, path, access, core::DirectIo::automatic);
  core::lock_image(file->descriptor(), access, path);
  qcow2::ImageOptions image;
  image.name = options.target;
  image.level = options.level.value_or(image.level);
  if (options.wide_window) image.window = qcow2::Window::wide;
  image.commit_interval_ms = commit_interval_ms;
  co_return co_await open_qcow2(engine, std::move(file), image);
}

}  // namespace fuse
