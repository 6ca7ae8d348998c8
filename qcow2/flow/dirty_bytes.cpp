#include "qcow2/flow/dirty_bytes.h"

#include <algorithm>
#include <cstring>

#include "core/alignment.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t page_bytes = 4096;  // what the kernel's page cache and most guests write at least
constexpr std::uint64_t page_overhead = 48;

}  // namespace

// `range` must have its room.
template <typename Visit>
void DirtyBytes::visit_stored(ByteRange range, Visit visit) const {
  if (buffer_) return visit(buffer_->data() + range.begin, range);
  auto at = std::partition_point(pages_.begin(), pages_.end(),
                                 [&](const Page& page) { return (page.number + 1) * page_bytes <= range.begin; });
  for (; range.begin < range.end; ++at) {
    const std::uint64_t page_starts = at->number * page_bytes;
    const ByteRange part{range.begin, std::min(range.end, page_starts + page_bytes)};
    visit(at->bytes.get() + (part.begin - page_starts), part);
    range.begin = part.end;
  }
}

void DirtyBytes::write(std::uint64_t within, core::SharedBytes bytes) {
  const ByteRange range{within, within + bytes.size()};
  if (bytes.size() == cluster_size_) {
    pages_.clear();
    buffer_.reset();
    payload_ = std::move(bytes);
  } else {
    make_room(range);
    visit_stored(range, [&](std::byte* memory, ByteRange part) {
      std::memcpy(memory, bytes.bytes.data() + (part.begin - within), part.length());
    });
  }
  known_.add(range);
}

void DirtyBytes::write_zeros(ByteRange range) {
  make_room(range);
  visit_stored(range, [](std::byte* memory, ByteRange part) { std::memset(memory, 0, part.length()); });
  known_.add(range);
}

void DirtyBytes::add_below(const DirtyBytes& older) {
  for (const ByteRange& gap : known_.missing({0, cluster_size_})) {
    for (const ByteRange& part : older.known_.within(gap)) {
      make_room(part);
      visit_stored(part, [&](std::byte* memory, ByteRange piece) {
        older.copy_known(piece, core::MutableBytes(memory, piece.length()));
      });
      known_.add(part);
    }
  }
}

void DirtyBytes::copy_known(ByteRange range, core::MutableBytes target) const {
  for (const ByteRange& known : known_.within(range)) {
    if (payload_.size() != 0) {
      std::memcpy(target.data() + (known.begin - range.begin), payload_.bytes.data() + known.begin, known.length());
      continue;
    }
    visit_stored(known, [&](const std::byte* memory, ByteRange part) {
      std::memcpy(target.data() + (part.begin - range.begin), memory, part.length());
    });
  }
}

core::SharedBytes DirtyBytes::over(const std::optional<core::SharedBytes>& base) const {
  if (payload_.size() != 0) return payload_;
  if (buffer_ && complete()) return core::SharedBytes(buffer_);
  const auto cluster = std::make_shared<core::Buffer>(cluster_size_);
  if (base) {
    std::memcpy(cluster->data(), base->bytes.data(), cluster_size_);
  } else {
    std::memset(cluster->data(), 0, cluster_size_);
  }
  copy_known({0, cluster_size_}, cluster->span());
  return core::SharedBytes(cluster);
}

std::uint64_t DirtyBytes::memory() const {
  if (buffer_ || payload_.size() != 0) return cluster_size_;
  return pages_.size() * (page_bytes + page_overhead);
}

// A buffer from half of the cluster on: it takes hardly more memory than the pages, and saves a copy at the end.
void DirtyBytes::make_room(ByteRange range) {
  if (buffer_) return;
  const std::uint64_t wanted = core::divide_up(range.end, page_bytes) - range.begin / page_bytes;
  const bool large = (pages_.size() + wanted) * 2 * page_bytes > cluster_size_;
  if (large || payload_.size() != 0) return join_pages();
  for (std::uint64_t number = range.begin / page_bytes; number * page_bytes < range.end; ++number) {
    const auto at = page(number);
    if (at != pages_.end() && at->number == number) continue;
    pages_.insert(at, Page{number, std::make_unique_for_overwrite<std::byte[]>(page_bytes)});
  }
}

std::vector<DirtyBytes::Page>::iterator DirtyBytes::page(std::uint64_t number) {
  return std::partition_point(pages_.begin(), pages_.end(), [&](const Page& page) { return page.number < number; });
}

void DirtyBytes::join_pages() {
  auto buffer = std::make_shared<core::Buffer>(cluster_size_);
  copy_known({0, cluster_size_}, buffer->span());
  pages_.clear();
  pages_.shrink_to_fit();
  payload_ = {};
  buffer_ = std::move(buffer);
}

}  // namespace qcow2
