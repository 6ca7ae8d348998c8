// Any bytes as a compressed cluster, of both types and every cluster size: no more comes out than a cluster, and who
// reads a stream to its end says the same as who only measures it.
#include <algorithm>

#include "core/check.h"
#include "core/error.h"
#include "qcow2/codec/codec.h"

namespace {

void decode(const qcow2::Codec& codec, core::Bytes stored, std::size_t cluster) {
  std::vector<std::byte> plain(cluster, std::byte{0x5a});
  std::vector<std::byte> measured(cluster, std::byte{0x5a});
  const bool decoded = codec.decompress(stored, plain);
  const std::optional<std::size_t> length = codec.measure(stored, measured);
  CHECK(decoded == length.has_value());
  if (!decoded) return;
  CHECK(*length <= stored.size() && plain == measured);
  std::vector<std::byte> again(cluster);
  CHECK(codec.decompress(stored.first(*length), again) && again == plain);
}

void round_trip(const qcow2::Codec& codec, core::Bytes plain) {
  std::vector<std::byte> stored(plain.size());
  const std::optional<std::size_t> length = codec.compress(plain, stored);
  if (!length) return;
  std::vector<std::byte> again(plain.size());
  CHECK(codec.decompress(core::Bytes(stored).first(*length), again));
  CHECK(std::equal(again.begin(), again.end(), plain.begin()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto zlib = qcow2::make_codec(qcow2::CompressionType::zlib, 1);
  static const auto zstd = qcow2::make_codec(qcow2::CompressionType::zstd, 1);
  if (size < 1) return 0;
  const qcow2::Codec& codec = (data[0] & 1) != 0 ? *zstd : *zlib;
  const std::size_t cluster = std::size_t{512} << (data[0] >> 1) % 13;
  const core::Bytes bytes = std::as_bytes(std::span(data + 1, size - 1));
  decode(codec, bytes.first(std::min(bytes.size(), 2 * cluster)), cluster);
  if (!bytes.empty()) round_trip(codec, bytes.first(std::min(bytes.size(), cluster)));
  return 0;
}
