// An image and the external data file that has its guest's data, as one block file.
#pragma once

#include <cstdint>
#include <memory>

#include "core/block_file.h"
#include "core/engine.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Bytes from data_file_base on are the data file's, those below it the image's; nothing crosses from one to the other.
/// A barrier is one for both. Of size, length and space set aside there is only the image's.
///
/// Ownership  Owns the data file; the image file and `engine` must outlive it.
/// Errors     As the two files.     Threads    The engine's strand.
class ImageAndData final : public core::BlockFile {
 public:
  ImageAndData(core::Engine& engine, core::BlockFile& image, std::unique_ptr<core::BlockFile> data)
      : engine_(engine), image_(image), data_(std::move(data)) {}

  /// Of the data file: makes it `to` bytes long, of which those from byte `from` on are zeros.
  core::Awaitable<void> resize_data(std::uint64_t from, std::uint64_t to);

  std::size_t block_size() const override;
  std::size_t depth() const override { return image_.depth(); }
  std::uint64_t size() const override { return image_.size(); }
  std::optional<std::uint64_t> allocated_bytes() const override {
    const std::optional<std::uint64_t> image = image_.allocated_bytes();
    if (!image) return std::nullopt;
    return *image + data_->allocated_bytes().value_or(0);
  }

  core::Awaitable<void> read_at(core::FileOffset at, core::MutableBytes target) override;
  using core::BlockFile::write_at;
  core::Awaitable<void> write_at(core::FileOffset at, std::span<const core::Bytes> pieces) override;
  core::Awaitable<void> barrier() override;
  core::Awaitable<void> truncate(std::uint64_t size) override { return image_.truncate(size); }
  core::Awaitable<bool> reserve(core::FileOffset at, std::uint64_t length) override;
  core::Awaitable<bool> punch(core::FileOffset at, std::uint64_t length) override;

 private:
  struct Place {
    core::BlockFile& file;
    core::FileOffset at;
  };
  Place place_of(core::FileOffset at);

  core::Engine& engine_;
  core::BlockFile& image_;
  std::unique_ptr<core::BlockFile> data_;
};

}  // namespace qcow2
