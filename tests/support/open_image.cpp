#include "tests/support/open_image.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "qcow2/create.h"
#include "qcow2/image.h"
#include "tests/support/image_session.h"

namespace test {

Bytes empty_image() {
  const TemporaryFolder folder;
  qcow2::CreateOptions options;
  options.size = OpenImage::disk_size;
  qcow2::create_image(folder.file("image"), options);
  std::ifstream stream(folder.file("image"), std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  Bytes bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

Bytes noise(std::uint64_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>('a' + random() % 16);
  return bytes;
}

Bytes random_bytes(std::uint64_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

OpenImage::OpenImage(const Bytes& content) : file(engine) {
  file.set_content(0, content);
  const qcow2::ImageOptions options;
  disk = run(engine, qcow2::open_image(engine, file, options));
}

OpenImage::~OpenImage() {
  try {
    if (!closed) close();
  } catch (const core::Error&) {  // told to the test before
  }
}

void OpenImage::close() {
  closed = true;
  run(engine, disk->close());
}

core::Awaitable<void> OpenImage::writing(std::uint64_t at, const Bytes& bytes) {
  const auto buffer = std::make_shared<core::Buffer>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), buffer->data());
  return disk->write(core::DiskOffset{at}, core::SharedBytes(buffer));
}

Bytes OpenImage::read(std::uint64_t at, std::uint64_t size) {
  Bytes bytes(size);
  run(engine, disk->read(core::DiskOffset{at}, bytes));
  return bytes;
}

}  // namespace test
