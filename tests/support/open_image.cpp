#include "tests/support/open_image.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>

#include "qcow2/create.h"
#include "tests/support/image_session.h"

namespace test {

Bytes read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error(path + " cannot be read");
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  Bytes bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!stream.flush()) throw std::runtime_error(path + " cannot be written");
}

Bytes empty_image() {
  const TemporaryFolder folder;
  qcow2::CreateOptions options;
  options.size = OpenImage::disk_size;
  qcow2::create_image(folder.file("image"), options);
  return read_file(folder.file("image"));
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

OpenImage::OpenImage(const Bytes& content, const qcow2::ImageOptions& options) : file(engine) {
  file.set_content(0, content);
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
