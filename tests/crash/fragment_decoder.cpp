#include "tests/crash/fragment_decoder.h"

#include <zlib.h>
#include <zstd.h>

#include "tests/crash/random.h"

namespace crash {
namespace {

constexpr std::size_t sectors_kept_max = 4 << 20;

bool inflate_raw(core::Bytes fragment, core::MutableBytes cluster) {
  z_stream stream{};
  if (inflateInit2(&stream, -12) != Z_OK) return false;
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(fragment.data()));  // NOLINT: zlib's interface
  stream.avail_in = static_cast<uInt>(fragment.size());
  stream.next_out = reinterpret_cast<Bytef*>(cluster.data());
  stream.avail_out = static_cast<uInt>(cluster.size());
  const int result = inflate(&stream, Z_FINISH);
  const bool full = stream.avail_out == 0;
  inflateEnd(&stream);
  return full && (result == Z_STREAM_END || result == Z_BUF_ERROR);
}

bool decompress_zstd(core::Bytes fragment, core::MutableBytes cluster) {
  static const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  ZSTD_DCtx_reset(context.get(), ZSTD_reset_session_only);
  ZSTD_inBuffer in{fragment.data(), fragment.size(), 0};
  ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
  std::size_t rest = 0;
  while (out.pos < out.size) {
    const std::size_t in_before = in.pos;
    const std::size_t out_before = out.pos;
    rest = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(rest) != 0) return false;
    if (in.pos == in_before && out.pos == out_before) return false;
  }
  return rest == 0;
}

}  // namespace

bool FragmentDecoder::decode(core::Bytes fragment, core::MutableBytes cluster, bool zstd) {
  return zstd ? decompress_zstd(fragment, cluster) : inflate_raw(fragment, cluster);
}

std::unique_ptr<FragmentDecoder::Hashes> FragmentDecoder::hash_cluster(core::Bytes cluster) {
  auto hashes = std::make_unique<Hashes>(cluster.size() / guest_sector);
  for (std::size_t i = 0; i < hashes->size(); ++i) {
    (*hashes)[i] = hash_sector(cluster.subspan(i * guest_sector, guest_sector));
  }
  return hashes;
}

const FragmentDecoder::Hashes* FragmentDecoder::compressed(core::Bytes fragment, std::size_t cluster_size, bool zstd) {
  const std::uint64_t key = mix(hash_bytes(fragment), cluster_size + (zstd ? 1 : 0));
  if (const auto found = known_.find(key); found != known_.end()) return found->second.get();
  core::Buffer cluster(cluster_size);
  std::unique_ptr<Hashes>& slot = known_[key];
  if (decode(fragment, cluster.span(), zstd)) slot = hash_cluster(cluster.span());
  known_sectors_ += cluster_size / guest_sector;
  return slot.get();
}

const FragmentDecoder::Hashes* FragmentDecoder::standard(core::Bytes cluster) {
  const std::uint64_t key = mix(hash_bytes(cluster), 2);
  std::unique_ptr<Hashes>& slot = known_[key];
  if (!slot) {
    slot = hash_cluster(cluster);
    known_sectors_ += cluster.size() / guest_sector;
  }
  return slot.get();
}

void FragmentDecoder::forget_if_large() {
  if (known_sectors_ < sectors_kept_max) return;
  known_.clear();
  known_sectors_ = 0;
}

}  // namespace crash
