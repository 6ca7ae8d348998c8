#include "qcow2/host/data_file.h"

#include <algorithm>

#include "core/async.h"

namespace qcow2 {

core::Awaitable<void> ImageAndData::resize_data(std::uint64_t from, std::uint64_t to) {
  if (from < to && from < data_->size()) co_await data_->truncate(from);
  if (data_->size() != to) co_await data_->truncate(to);
}

std::size_t ImageAndData::block_size() const { return std::max(image_.block_size(), data_->block_size()); }

ImageAndData::Place ImageAndData::place_of(core::FileOffset at) {
  if (at < data_file_base) return {image_, at};
  return {*data_, core::FileOffset{at - data_file_base}};
}

core::Awaitable<void> ImageAndData::read_at(core::FileOffset at, core::MutableBytes target) {
  const Place place = place_of(at);
  return place.file.read_at(place.at, target);
}

core::Awaitable<void> ImageAndData::write_at(core::FileOffset at, std::span<const core::Bytes> pieces) {
  const Place place = place_of(at);
  return place.file.write_at(place.at, pieces);
}

core::Awaitable<void> ImageAndData::barrier() {
  core::TaskGroup both(engine_.executor());
  both.spawn(image_.barrier());
  both.spawn(data_->barrier());
  co_await both.join();
}

core::Awaitable<bool> ImageAndData::reserve(core::FileOffset at, std::uint64_t length) {
  const Place place = place_of(at);
  return place.file.reserve(place.at, length);
}

core::Awaitable<bool> ImageAndData::punch(core::FileOffset at, std::uint64_t length) {
  const Place place = place_of(at);
  return place.file.punch(place.at, length);
}

}  // namespace qcow2
