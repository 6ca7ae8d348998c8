#include "fuse/copy_source.h"

#include <algorithm>
#include <memory>

#include "core/alignment.h"
#include "core/error.h"
#include "fuse/image_format.h"
#include "fuse/standard_streams.h"

namespace fuse {
namespace {

constexpr std::uint64_t piece_bytes = 1 << 20;

}  // namespace

DiskPieces::DiskPieces(Source& source, std::uint64_t unit)
    : source_(source), unit_(unit), piece_size_(std::max(unit, piece_bytes)) {}

core::Awaitable<std::optional<Piece>> DiskPieces::next() {
  if (at_ >= data_end_) co_await find_data();
  if (at_ >= size()) co_return std::nullopt;
  Piece piece;
  piece.at = core::DiskOffset{at_};
  piece.length = std::min(core::align_down(at_, piece_size_) + piece_size_, data_end_) - at_;
  at_ += piece.length;
  co_return piece;
}

core::Awaitable<void> DiskPieces::find_data() {
  const std::uint64_t found = co_await source_.next_data(core::DiskOffset{at_});
  if (found >= size()) {
    at_ = size();
    co_return;
  }
  const std::uint64_t hole = co_await source_.next_hole(core::DiskOffset{found});
  at_ = std::max(at_, core::align_down(found, unit_));
  data_end_ = std::min(size(), core::align_up(std::max(hole, found + 1), unit_));
}

core::Awaitable<void> DiskPieces::fill(Piece& piece) {
  const auto buffer = std::make_shared<core::Buffer>(piece.length);
  co_await source_.read(piece.at, buffer->span());
  piece.bytes = core::SharedBytes(buffer);
}

StreamPieces::StreamPieces(core::Engine& engine, int descriptor, bool must_be_raw)
    : engine_(engine), descriptor_(descriptor), must_be_raw_(must_be_raw) {}

core::Awaitable<std::optional<Piece>> StreamPieces::next() {
  const auto buffer = std::make_shared<core::Buffer>(piece_bytes);
  auto job = [descriptor = descriptor_, &buffer] { return read_stream(descriptor, buffer->span()); };
  const std::size_t got = co_await core::run(engine_.io(), job);
  if (got == 0) co_return std::nullopt;
  Piece piece;
  piece.at = core::DiskOffset{at_};
  piece.length = got;
  piece.bytes = core::SharedBytes(buffer, buffer->span().first(got));
  if (at_ == 0 && !must_be_raw_ && starts_like_qcow2(piece.bytes.bytes)) {
    core::fail(core::Errc::bad_argument,
               "stdin: a qcow2 image can only be read from a file; -f raw copies it as the bytes that it is");
  }
  at_ += got;
  co_return piece;
}

}  // namespace fuse
