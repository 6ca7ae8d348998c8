// A whole image on a scripted file, one thread, a clock that stands still: one test is one history.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/guest_disk.h"
#include "qcow2/image.h"
#include "tests/support/run.h"
#include "tests/support/scripted_file.h"

namespace test {

using Bytes = std::vector<std::byte>;

/// All of a file; throws where it cannot be opened. And its opposite.
Bytes read_file(const std::string& path);
void write_file(const std::string& path, const Bytes& bytes);

/// The file of an empty image with a disk of OpenImage::disk_size bytes, zlib.
Bytes empty_image();
/// Shrinks to about a half.
Bytes noise(std::uint64_t size, unsigned seed);
/// Does not shrink.
Bytes random_bytes(std::uint64_t size, unsigned seed);

/// Opened for writing; closed by its destructor at the latest. Every call waits until its coroutine has ended, and
/// throws what it threw.
class OpenImage {
 public:
  static constexpr std::uint64_t cluster = 65536;
  static constexpr std::uint64_t disk_size = 64 * cluster;

  explicit OpenImage(const Bytes& content, const qcow2::ImageOptions& options = {});
  OpenImage(const OpenImage&) = delete;
  OpenImage& operator=(const OpenImage&) = delete;
  ~OpenImage();
  void close();

  core::Awaitable<void> writing(std::uint64_t at, const Bytes& bytes);
  void write(std::uint64_t at, const Bytes& bytes) { run(engine, writing(at, bytes)); }
  void flush() { run(engine, disk->flush()); }
  Bytes read(std::uint64_t at, std::uint64_t size);
  std::size_t barriers() const { return file.count(ScriptedFile::Kind::barrier); }
  Bytes content() const { return file.content(0, file.size()); }

  TestEngine engine;
  ScriptedFile file;
  std::unique_ptr<core::GuestDisk> disk;
  bool closed = false;
};

}  // namespace test
