// The scale, measured on one core with 64 KiB clusters of programs, text and archives:
//
//   level         1     2     3   |   4     5     6     7     8     9
//   writer      igzip 1, 2 and 3  |  zlib, the same levels
//   MB/s        340   330   150   |  42    37    33    30    23    20
//   stored     .438  .436  .429   | .413  .409  .408  .408  .407  .407    of the original
//
// In a wide window (15 bits):
//
//   writer      igzip 1, 2 and 3  |  libdeflate 2, 4, 6, 8, 10 and 12
//
// libdeflate writes faster and smaller than zlib, but not within a 12-bit window.
#include "qcow2/codec/deflate.h"

#define ZLIB_CONST  // next_in points to const
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <zlib.h>

#include <array>
#include <memory>
#include <new>

namespace qcow2 {
namespace {

constexpr int narrow_window_bits = 12;
constexpr int wide_window_bits = 15;  // the widest of all
constexpr int read_window_bits = 15;
constexpr int igzip_level_max = 3;
constexpr std::array<int, level_max + 1> libdeflate_levels = {0, 0, 0, 0, 2, 4, 6, 8, 10, 12};  // by our level
// 9 is slower by a quarter and no smaller: a larger hash table to clear and slide for a window of only 12
// bits.
constexpr int zlib_memory_level = 8;

const std::uint8_t* as_octets(const std::byte* bytes) { return reinterpret_cast<const std::uint8_t*>(bytes); }
std::uint8_t* as_octets(std::byte* bytes) { return reinterpret_cast<std::uint8_t*>(bytes); }

class IgzipWriter {
 public:
  std::optional<std::size_t> compress(int level, int window_bits, core::Bytes plain, core::MutableBytes target) {
    isal_deflate_stateless_init(&stream_);
    stream_.hist_bits = static_cast<std::uint16_t>(window_bits);  // init sets everything but this
    stream_.level = static_cast<std::uint32_t>(level);
    stream_.level_buf = level_buffer_.data();
    stream_.level_buf_size = static_cast<std::uint32_t>(level_buffer_.size());
    stream_.end_of_stream = 1;
    stream_.flush = NO_FLUSH;
    // Not declared const, but only read.
    stream_.next_in = const_cast<std::uint8_t*>(as_octets(plain.data()));
    stream_.avail_in = static_cast<std::uint32_t>(plain.size());
    stream_.next_out = as_octets(target.data());
    stream_.avail_out = static_cast<std::uint32_t>(target.size());
    if (isal_deflate_stateless(&stream_) != COMP_OK) return std::nullopt;
    return stream_.total_out;
  }

 private:
  isal_zstream stream_{};
  std::array<std::uint8_t, ISAL_DEF_LVL3_DEFAULT> level_buffer_{};  // the largest of the three levels
};

class ZlibWriter {
 public:
  explicit ZlibWriter(int level) {
    const int result =
        deflateInit2(&stream_, level, Z_DEFLATED, -narrow_window_bits, zlib_memory_level, Z_DEFAULT_STRATEGY);
    if (result != Z_OK) throw std::bad_alloc();
  }
  ZlibWriter(const ZlibWriter&) = delete;
  ZlibWriter& operator=(const ZlibWriter&) = delete;
  ~ZlibWriter() { deflateEnd(&stream_); }

  std::optional<std::size_t> compress(core::Bytes plain, core::MutableBytes target) {
    deflateReset(&stream_);
    stream_.next_in = as_octets(plain.data());
    stream_.avail_in = static_cast<uInt>(plain.size());
    stream_.next_out = as_octets(target.data());
    stream_.avail_out = static_cast<uInt>(target.size());
    if (deflate(&stream_, Z_FINISH) != Z_STREAM_END) return std::nullopt;
    return stream_.total_out;
  }

 private:
  z_stream stream_{};
};

class LibdeflateWriter {
 public:
  explicit LibdeflateWriter(int level)
      : compressor_(libdeflate_alloc_compressor(libdeflate_levels.at(static_cast<std::size_t>(level)))) {
    if (compressor_ == nullptr) throw std::bad_alloc();
  }

  std::optional<std::size_t> compress(core::Bytes plain, core::MutableBytes target) {
    const std::size_t used =
        libdeflate_deflate_compress(compressor_.get(), plain.data(), plain.size(), target.data(), target.size());
    if (used == 0) return std::nullopt;
    return used;
  }

 private:
  struct Release {
    void operator()(libdeflate_compressor* compressor) const { libdeflate_free_compressor(compressor); }
  };
  std::unique_ptr<libdeflate_compressor, Release> compressor_;
};

class ZlibReader {
 public:
  ZlibReader() {
    if (inflateInit2(&stream_, -read_window_bits) != Z_OK) throw std::bad_alloc();
  }
  ZlibReader(const ZlibReader&) = delete;
  ZlibReader& operator=(const ZlibReader&) = delete;
  ~ZlibReader() { inflateEnd(&stream_); }

  /// True also where the stream goes on behind `plain`, or ends without a final block once `plain` is full.
  bool fill(core::Bytes stored, core::MutableBytes plain) {
    inflateReset(&stream_);
    stream_.next_in = as_octets(stored.data());
    stream_.avail_in = static_cast<uInt>(stored.size());
    stream_.next_out = as_octets(plain.data());
    stream_.avail_out = static_cast<uInt>(plain.size());
    const int result = inflate(&stream_, Z_FINISH);
    return stream_.avail_out == 0 && (result == Z_STREAM_END || result == Z_BUF_ERROR || result == Z_OK);
  }

 private:
  z_stream stream_{};
};

class LibdeflateReader {
 public:
  LibdeflateReader() : decompressor_(libdeflate_alloc_decompressor()) {
    if (decompressor_ == nullptr) throw std::bad_alloc();
  }

  /// The length of a whole stream that makes exactly `plain`. What lies behind its end is not looked at.
  std::optional<std::size_t> fill(core::Bytes stored, core::MutableBytes plain) {
    std::size_t taken = 0;
    std::size_t made = 0;
    const libdeflate_result result = libdeflate_deflate_decompress_ex(decompressor_.get(), stored.data(), stored.size(),
                                                                      plain.data(), plain.size(), &taken, &made);
    if (result != LIBDEFLATE_SUCCESS || made != plain.size()) return std::nullopt;
    return taken;
  }

 private:
  struct Release {
    void operator()(libdeflate_decompressor* decompressor) const { libdeflate_free_decompressor(decompressor); }
  };
  std::unique_ptr<libdeflate_decompressor, Release> decompressor_;
};

// Up to 400 KiB each: made where a thread first needs it, kept because making it can cost more than using it.
template <class Tool>
Tool& tool_of_this_thread() {
  thread_local const auto tool = std::make_unique<Tool>();
  return *tool;
}

template <class Writer>
Writer& writer_of_this_thread(int level) {
  thread_local std::array<std::unique_ptr<Writer>, level_max + 1> writers;
  std::unique_ptr<Writer>& writer = writers[static_cast<std::size_t>(level)];
  if (!writer) writer = std::make_unique<Writer>(level);
  return *writer;
}

}  // namespace

std::optional<std::size_t> Deflate::compress(core::Bytes plain, core::MutableBytes target) const {
  const bool wide = window_ == Window::wide;
  if (level_ <= igzip_level_max) {
    const int window_bits = wide ? wide_window_bits : narrow_window_bits;
    return tool_of_this_thread<IgzipWriter>().compress(level_, window_bits, plain, target);
  }
  if (wide) return writer_of_this_thread<LibdeflateWriter>(level_).compress(plain, target);
  return writer_of_this_thread<ZlibWriter>(level_).compress(plain, target);
}

bool Deflate::decompress(core::Bytes stored, core::MutableBytes plain) const {
  return measure(stored, plain).has_value();
}

std::optional<std::size_t> Deflate::measure(core::Bytes stored, core::MutableBytes plain) const {
  if (const auto taken = tool_of_this_thread<LibdeflateReader>().fill(stored, plain)) return taken;
  // libdeflate refuses a stream that goes on behind the cluster; other readers of the format accept it.
  if (tool_of_this_thread<ZlibReader>().fill(stored, plain)) return stored.size();
  return std::nullopt;
}

}  // namespace qcow2
