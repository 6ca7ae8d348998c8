// What the codec alone allows: a file in 64 KiB pieces, compressed and decompressed by one thread for each processor,
// all in memory. Pieces of zeros are only looked at, as the engine does. One line of JSON; speeds are of the file's
// bytes.
//
//   codec_speed FILE zlib|zstd [LEVEL [THREADS]]     LEVEL 0: the default
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "qcow2/codec/codec.h"

namespace {

constexpr std::size_t piece_bytes = 64 << 10;
constexpr std::size_t chunk_bytes = 64 << 20;  // held in memory at a time

struct Piece {
  core::Bytes plain;
  core::MutableBytes room;            ///< for the compressed bytes
  core::MutableBytes back;            ///< for what they decompress to
  std::optional<std::size_t> length;  ///< compressed; nothing where it is zeros or doesn't get smaller
};

struct Totals {
  double plain_bytes = 0;
  double stored_bytes = 0;
  double compress_s = 0;
  double decompress_s = 0;
};

// Calls step(piece) for every piece, on `threads` threads. The seconds it took.
template <class Step>
double on_all(std::vector<Piece>& pieces, unsigned threads, const Step& step) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t at = next++; at < pieces.size(); at = next++) step(pieces[at]);
  };
  const auto started = std::chrono::steady_clock::now();
  std::vector<std::thread> crew;
  for (unsigned i = 0; i < threads; ++i) crew.emplace_back(work);
  for (std::thread& thread : crew) thread.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

std::vector<Piece> cut(core::Buffer& plain, core::Buffer& stored, core::Buffer& back, std::size_t size) {
  std::vector<Piece> pieces;
  for (std::size_t at = 0; at < size; at += piece_bytes) {
    const std::size_t length = std::min(piece_bytes, size - at);
    pieces.push_back({plain.span().subspan(at, length),
                      stored.span().subspan(at, length - std::min<std::size_t>(512, length / 8)),
                      back.span().subspan(at, length), std::nullopt});
  }
  return pieces;
}

// False where the bytes do not come back as they were.
bool measure(const qcow2::Codec& codec, std::vector<Piece>& pieces, unsigned threads, Totals& totals) {
  totals.compress_s += on_all(pieces, threads, [&](Piece& piece) {
    if (!qcow2::is_all_zero(piece.plain)) piece.length = codec.compress(piece.plain, piece.room);
  });
  std::atomic<bool> sound = true;
  totals.decompress_s += on_all(pieces, threads, [&](Piece& piece) {
    if (piece.length && !codec.decompress(piece.room.first(*piece.length), piece.back)) sound = false;
  });
  for (const Piece& piece : pieces) {
    totals.plain_bytes += static_cast<double>(piece.plain.size());
    if (piece.length) {
      totals.stored_bytes += static_cast<double>(*piece.length);
      if (std::memcmp(piece.plain.data(), piece.back.data(), piece.plain.size()) != 0) sound = false;
    } else if (!qcow2::is_all_zero(piece.plain)) {
      totals.stored_bytes += static_cast<double>(piece.plain.size());
    }
  }
  return sound;
}

int usage() {
  std::fputs("usage: codec_speed FILE zlib|zstd [LEVEL [THREADS [4k|32k]]]\n", stderr);
  return 2;
}

}  // namespace

int main(int count, char** words) {
  if (count < 3 || count > 6) return usage();
  const std::string_view type = words[2];
  const int level = count > 3 ? std::atoi(words[3]) : 0;
  const int threads_wanted = count > 4 ? std::atoi(words[4]) : static_cast<int>(std::thread::hardware_concurrency());
  const bool wide = count > 5 && std::string_view(words[5]) == "32k";
  if ((type != "zlib" && type != "zstd") || level < 0 || level > qcow2::level_max) return usage();
  const auto threads = static_cast<unsigned>(std::max(1, threads_wanted));
  const auto codec =
      qcow2::make_codec(type == "zlib" ? qcow2::CompressionType::zlib : qcow2::CompressionType::zstd,
                        level == 0 ? qcow2::level_default : level, wide ? qcow2::Window::wide : qcow2::Window::narrow);
  std::ifstream file(words[1], std::ios::binary);
  core::Buffer plain = core::Buffer::zeroed(chunk_bytes);
  core::Buffer stored = core::Buffer::zeroed(chunk_bytes);  // zeroed: no page fault is left for the measured part
  core::Buffer back = core::Buffer::zeroed(chunk_bytes);
  Totals totals;
  for (;;) {
    file.read(reinterpret_cast<char*>(plain.data()), chunk_bytes);
    const auto got = static_cast<std::size_t>(file.gcount());
    if (got == 0) break;
    std::vector<Piece> pieces = cut(plain, stored, back, got);
    if (!measure(*codec, pieces, threads, totals)) {
      std::fputs("codec_speed: what was compressed does not come back\n", stderr);
      return 1;
    }
  }
  if (totals.plain_bytes == 0) {
    std::fprintf(stderr, "codec_speed: %s: nothing to read\n", words[1]);
    return 1;
  }
  std::printf("{\"compress_mbps\": %.1f, \"decompress_mbps\": %.1f, \"ratio\": %.4f, \"threads\": %u}\n",
              totals.plain_bytes / totals.compress_s / 1e6, totals.plain_bytes / totals.decompress_s / 1e6,
              totals.stored_bytes / totals.plain_bytes, threads);
  return 0;
}
