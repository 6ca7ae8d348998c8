#include "fuse/image_format.h"

#include "core/big_endian.h"

namespace fuse {
namespace {

constexpr std::uint32_t qcow2_magic = 0x514649fb;

}  // namespace

bool starts_like_qcow2(core::Bytes head) {
  return head.size() >= sizeof(qcow2_magic) && core::load_big_endian<std::uint32_t>(head, 0) == qcow2_magic;
}

core::Awaitable<ImageFormat> detect_format(core::BlockFile& file) {
  core::Buffer head(sizeof(qcow2_magic));
  co_await file.read_at(core::FileOffset{0}, head.span());
  co_return starts_like_qcow2(head.span()) ? ImageFormat::qcow2 : ImageFormat::raw;
}

}  // namespace fuse
