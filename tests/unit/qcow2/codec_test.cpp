// Claims   What the codecs write is read back by themselves and, for deflate, by the strictest reader of the
// format.
//          They read whatever other readers of the format accept, and survive everything else.
// Method   Round trips over seeded data; a zlib reader with a 12-bit window that is given one byte of room at
// a time;
//          streams built here to be odd; buffers that end at a page which may not be touched (the libraries
//          are partly assembler, which no sanitizer watches).
#include "qcow2/codec/codec.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"

namespace qcow2 {
namespace {

using Data = std::vector<std::byte>;

constexpr std::size_t kibi = 1024;
constexpr std::size_t smallest = 512;
constexpr std::size_t largest = 2048 * kibi;

// ---- data ----

enum class Kind { zeros, ones, random, text, mixed, far_repeats };
constexpr Kind all_kinds[] = {Kind::zeros, Kind::ones, Kind::random, Kind::text, Kind::mixed, Kind::far_repeats};

Data random_data(std::size_t size, std::mt19937_64& random) {
  Data data(size);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random() >> 32);
  return data;
}

std::vector<Data> make_vocabulary() {
  std::mt19937_64 random(2);
  std::vector<Data> words(1000);
  for (Data& word : words) {
    word = random_data(2 + random() % 7, random);
    for (std::byte& letter : word) letter = static_cast<std::byte>('a' + std::to_integer<unsigned>(letter) % 26);
    word.push_back(std::byte{' '});
  }
  return words;
}

// The product of two numbers makes some words much more frequent than others.
Data text_data(std::size_t size, std::mt19937_64& random) {
  static const std::vector<Data> words = make_vocabulary();
  Data data;
  while (data.size() < size) {
    const Data& word = words[(random() % 32) * (random() % 32)];
    data.insert(data.end(), word.begin(), word.end());
  }
  data.resize(size);
  return data;
}

// Fresh bytes, runs and copies from anywhere before, in pieces of 1 to 400 bytes.
Data mixed_data(std::size_t size, std::mt19937_64& random) {
  Data data;
  while (data.size() < size) {
    const std::size_t length = 1 + random() % 400;
    const std::uint64_t kind = random() % 4;
    const std::size_t distance = 1 + random() % std::min<std::size_t>(data.size() + 1, 40000);
    const std::byte run = static_cast<std::byte>(random());
    for (std::size_t i = 0; i < length; ++i) {
      const bool copy = kind < 2 && distance <= data.size();
      data.push_back(copy ? data[data.size() - distance] : kind == 2 ? run : static_cast<std::byte>(random()));
    }
  }
  data.resize(size);
  return data;
}

// Nothing repeats within 4 KiB, everything repeats after 5000 bytes: a window wider than 12 bits would be
// used.
Data far_repeating_data(std::size_t size, std::mt19937_64& random) {
  Data data = random_data(std::min<std::size_t>(size, 5000), random);
  while (data.size() < size) data.push_back(data[data.size() - 5000]);
  return data;
}

Data make_data(Kind kind, std::size_t size, std::uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  switch (kind) {
    case Kind::zeros: return Data(size, std::byte{0});
    case Kind::ones: return Data(size, std::byte{0xff});
    case Kind::random: return random_data(size, random);
    case Kind::text: return text_data(size, random);
    case Kind::mixed: return mixed_data(size, random);
    case Kind::far_repeats: return far_repeating_data(size, random);
  }
  return {};
}

Data concatenated(std::initializer_list<Data> parts) {
  Data whole;
  for (const Data& part : parts) whole.insert(whole.end(), part.begin(), part.end());
  return whole;
}

Data octets(std::initializer_list<unsigned> values) {
  Data data;
  for (const unsigned value : values) data.push_back(static_cast<std::byte>(value));
  return data;
}

// ---- memory ----

// Memory that ends where the next page may not be touched, and begins behind a canary.
class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t size) : size_(size), mapped_((size + page + page - 1) / page * page + page) {
    void* const memory = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    ::mprotect(memory_ + mapped_ - page, page, PROT_NONE);
    std::fill(memory_, span().data(), canary);
  }
  explicit GuardedMemory(core::Bytes content) : GuardedMemory(content.size()) {
    std::copy(content.begin(), content.end(), span().begin());
  }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  ~GuardedMemory() { ::munmap(memory_, mapped_); }

  core::MutableBytes span() { return {memory_ + mapped_ - page - size_, size_}; }
  bool intact() {
    return std::all_of(memory_, span().data(), [](std::byte byte) { return byte == canary; });
  }

 private:
  static constexpr std::size_t page = 4096;
  static constexpr std::byte canary{0xa5};
  std::size_t size_;
  std::size_t mapped_;
  std::byte* memory_ = nullptr;
};

// ---- streams ----

std::optional<Data> compressed(CompressionType type, int level, const Data& plain) {
  Data target(plain.size());
  const auto used = make_codec(type, level)->compress(plain, target);
  if (!used) return std::nullopt;
  target.resize(*used);
  return target;
}

bool reads_as(CompressionType type, const Data& stored, const Data& plain) {
  GuardedMemory source{core::Bytes(stored)};
  GuardedMemory target(plain.size());
  const bool read = make_codec(type, level_default)->decompress(source.span(), target.span());
  EXPECT_TRUE(target.intact());
  return read && std::ranges::equal(target.span(), plain);
}

bool refuses(CompressionType type, const Data& stored, std::size_t plain_size) {
  GuardedMemory source{core::Bytes(stored)};
  GuardedMemory target(plain_size);
  const bool read = make_codec(type, level_default)->decompress(source.span(), target.span());
  EXPECT_TRUE(target.intact());
  return !read;
}

// zlib's own deflate, with the wrapper and the window that `window_bits` means to it.
Data deflated(const Data& plain, int window_bits, int flush = Z_FINISH) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
  Data target(plain.size() * 2 + 1024);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(plain.data()));
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = reinterpret_cast<Bytef*>(target.data());
  stream.avail_out = static_cast<uInt>(target.size());
  deflate(&stream, flush);
  target.resize(stream.total_out);
  deflateEnd(&stream);
  return target;
}

// Inflates with a 12-bit window and one byte of room at a time, so that nothing but the window can serve a
// distance. True where that makes `plain`, ends there with a final block and uses all of `stored`.
bool strictly_inflates_to(const Data& stored, const Data& plain) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, -12), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(stored.data()));
  stream.avail_in = static_cast<uInt>(stored.size());
  int result = Z_OK;
  bool equal = true;
  while (result == Z_OK && equal) {
    Bytef octet = 0;
    stream.next_out = &octet;
    stream.avail_out = 1;
    const std::size_t at = stream.total_out;
    result = inflate(&stream, Z_NO_FLUSH);
    if (stream.avail_out == 0) equal = at < plain.size() && static_cast<std::byte>(octet) == plain[at];
  }
  const bool complete = result == Z_STREAM_END && stream.total_out == plain.size() && stream.avail_in == 0;
  inflateEnd(&stream);
  return equal && complete;
}

Data zstd_frame(const Data& plain, bool checksum = false, bool content_size = true) {
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum ? 1 : 0);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, content_size ? 1 : 0);
  Data target(ZSTD_compressBound(plain.size()));
  target.resize(ZSTD_compress2(context, target.data(), target.size(), plain.data(), plain.size()));
  ZSTD_freeCCtx(context);
  return target;
}

// One run of `length` (below 128 KiB) zeros, in a frame that asks its reader for a window of 2^window_log
// bytes.
Data zstd_frame_of_window(unsigned window_log, unsigned length) {
  const unsigned block = length << 3 | 1u << 1 | 1u;  // size, type "repeat one byte", last
  return octets(
      {0x28, 0xb5, 0x2f, 0xfd, 0x00, (window_log - 10) << 3, block & 0xff, block >> 8 & 0xff, block >> 16, 0});
}

std::string described(CompressionType type, int level, Kind kind, std::size_t size) {
  return (type == CompressionType::zstd ? "zstd level " : "deflate level ") + std::to_string(level) + ", kind " +
         std::to_string(static_cast<int>(kind)) + ", " + std::to_string(size) + " bytes";
}

void expect_round_trip(CompressionType type, int level, Kind kind, std::size_t size) {
  SCOPED_TRACE(described(type, level, kind, size));
  const Data plain = make_data(kind, size, size);
  const auto stored = compressed(type, level, plain);
  if (kind == Kind::random) {
    EXPECT_FALSE(stored);
    return;
  }
  if (!stored) {
    EXPECT_TRUE(kind == Kind::far_repeats);  // too far for a narrow window, or not yet repeated
    return;
  }
  EXPECT_TRUE(reads_as(type, *stored, plain));
  if (type == CompressionType::zlib) {
    EXPECT_TRUE(strictly_inflates_to(*stored, plain));
  }
}

// ---- both types ----

class BothCodecs : public testing::TestWithParam<CompressionType> {};
INSTANTIATE_TEST_SUITE_P(Codec, BothCodecs, testing::Values(CompressionType::zlib, CompressionType::zstd),
                         [](const auto& parameter) {
                           return parameter.param == CompressionType::zstd ? "Zstd" : "Deflate";
                         });

TEST_P(BothCodecs, ReadBackWhatTheyWroteOfEveryKindAtEveryLevel) {
  for (int level = level_min; level <= level_max; ++level) {
    for (const Kind kind : all_kinds) {
      for (const std::size_t size : {smallest, 4 * kibi, 64 * kibi}) expect_round_trip(GetParam(), level, kind, size);
    }
  }
}

TEST_P(BothCodecs, ReadBackClustersOfEverySize) {
  for (const int level : {1, 3, 4, 9}) {
    for (std::size_t size = smallest; size <= largest; size *= 2) {
      expect_round_trip(GetParam(), level, Kind::text, size);
    }
  }
}

TEST_P(BothCodecs, WriteMuchLessOfWhatRepeats) {
  for (int level = level_min; level <= level_max; ++level) {
    const auto stored = compressed(GetParam(), level, make_data(Kind::ones, 64 * kibi));
    ASSERT_TRUE(stored);
    EXPECT_LT(stored->size(), 256u);
  }
}

TEST_P(BothCodecs, SayWhereTheTargetIsTooSmallAndStayInsideIt) {
  for (int level = level_min; level <= level_max; ++level) {
    for (const Kind kind : {Kind::text, Kind::ones, Kind::random}) {
      SCOPED_TRACE(described(GetParam(), level, kind, 4096));
      GuardedMemory plain{core::Bytes(make_data(kind, 4 * kibi))};
      const auto codec = make_codec(GetParam(), level);
      for (std::size_t room = 0; room < 4 * kibi; room += 1 + room / 16) {
        GuardedMemory target(room);
        const auto used = codec->compress(plain.span(), target.span());
        ASSERT_TRUE(target.intact());
        if (!used) continue;
        ASSERT_LE(*used, room);
        Data back(4 * kibi);
        ASSERT_TRUE(codec->decompress(target.span(), back));
        ASSERT_TRUE(std::ranges::equal(back, plain.span()));
      }
    }
  }
}

TEST_P(BothCodecs, StayInsideTheirBuffersWhateverTheClusterHolds) {
  for (int round = 0; round < 300; ++round) {
    const std::size_t size = smallest << round % 8;
    const int level = level_min + round % 5;
    SCOPED_TRACE(described(GetParam(), level, Kind::mixed, size) + ", round " + std::to_string(round));
    GuardedMemory plain{core::Bytes(make_data(Kind::mixed, size, static_cast<std::uint64_t>(round)))};
    GuardedMemory target(size - 1);
    const auto codec = make_codec(GetParam(), level);
    const auto used = codec->compress(plain.span(), target.span());
    ASSERT_TRUE(target.intact());
    if (!used) continue;
    GuardedMemory stored{core::Bytes(target.span().first(*used))};
    GuardedMemory back(size);
    ASSERT_TRUE(codec->decompress(stored.span(), back.span()));
    ASSERT_TRUE(back.intact());
    ASSERT_TRUE(std::ranges::equal(back.span(), plain.span()));
  }
}

TEST_P(BothCodecs, IgnoreWhatFollowsTheStream) {
  const Data plain = make_data(Kind::text, 64 * kibi);
  const Data stored = compressed(GetParam(), level_default, plain).value();
  EXPECT_TRUE(reads_as(GetParam(), concatenated({stored, make_data(Kind::random, 511)}), plain));
  EXPECT_TRUE(reads_as(GetParam(), concatenated({stored, make_data(Kind::zeros, 511)}), plain));
  EXPECT_TRUE(reads_as(GetParam(), concatenated({stored, stored}), plain));
}

TEST_P(BothCodecs, RefuseAStreamThatIsTooShort) {
  const Data stored = compressed(GetParam(), level_default, make_data(Kind::text, 4 * kibi)).value();
  EXPECT_TRUE(refuses(GetParam(), stored, 4 * kibi + 1));
  EXPECT_TRUE(refuses(GetParam(), stored, 64 * kibi));
  EXPECT_TRUE(refuses(GetParam(), {}, smallest));
}

TEST_P(BothCodecs, RefuseAStreamThatIsCutOff) {
  const Data plain = make_data(Kind::text, 64 * kibi);
  const Data stored = compressed(GetParam(), level_default, plain).value();
  for (std::size_t kept = 0; kept + 1 < stored.size(); kept += 1 + kept / 8) {
    EXPECT_TRUE(
        refuses(GetParam(), Data(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(kept)), plain.size()))
        << kept;
  }
}

TEST_P(BothCodecs, SurviveGarbage) {
  std::mt19937_64 random(7);
  const auto codec = make_codec(GetParam(), level_default);
  for (int round = 0; round < 2000; ++round) {
    GuardedMemory stored{core::Bytes(random_data(random() % 2048, random))};
    if (GetParam() == CompressionType::zstd && stored.span().size() > 4 && round % 2 == 0) {
      std::ranges::copy(octets({0x28, 0xb5, 0x2f, 0xfd}),
                        stored.span().begin());  // to get past the magic number
    }
    GuardedMemory plain(smallest << random() % 8);
    codec->decompress(stored.span(), plain.span());
    ASSERT_TRUE(plain.intact());
  }
}

TEST_P(BothCodecs, SurviveDamageToAStream) {
  std::mt19937_64 random(8);
  const Data sound = compressed(GetParam(), level_default, make_data(Kind::mixed, 16 * kibi)).value();
  const auto codec = make_codec(GetParam(), level_default);
  for (int round = 0; round < 3000; ++round) {
    GuardedMemory stored{core::Bytes(sound)};
    for (std::uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
      stored.span()[random() % sound.size()] ^= static_cast<std::byte>(1u << random() % 8);
    }
    GuardedMemory plain(16 * kibi);
    codec->decompress(stored.span(), plain.span());
    ASSERT_TRUE(plain.intact());
  }
}

TEST_P(BothCodecs, ServeThreadsOfDifferentLevelsAtOnce) {
  std::vector<std::thread> threads;
  for (int level = level_min; level <= level_max; ++level) {
    threads.emplace_back([level, type = GetParam()] {
      for (std::uint64_t round = 0; round < 5; ++round) {
        const int changing = level_min + (level + static_cast<int>(round)) % level_max;
        const Data plain = make_data(Kind::text, 16 * kibi, round);
        EXPECT_TRUE(reads_as(type, compressed(type, changing, plain).value(), plain));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(BothCodecs, HaveNoLevelOutsideTheScale) {
  EXPECT_THROW(make_codec(GetParam(), level_min - 1), core::Error);
  EXPECT_THROW(make_codec(GetParam(), level_max + 1), core::Error);
}

// ---- deflate ----

TEST(Deflate, StaysWithinATwelveBitWindow) {
  for (int level = level_min; level <= level_max; ++level) {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      const Data plain = make_data(Kind::mixed, 64 * kibi, seed);
      EXPECT_TRUE(strictly_inflates_to(compressed(CompressionType::zlib, level, plain).value(), plain))
          << described(CompressionType::zlib, level, Kind::mixed, plain.size()) << ", seed " << seed;
    }
  }
}

TEST(Deflate, WindowTestNoticesAWiderOne) {
  const Data plain = make_data(Kind::far_repeats, 64 * kibi);
  EXPECT_TRUE(strictly_inflates_to(deflated(plain, -12), plain));
  EXPECT_FALSE(strictly_inflates_to(deflated(plain, -13), plain));
  EXPECT_FALSE(strictly_inflates_to(deflated(plain, -15), plain));
}

// By one call and with a window of 12 bits, whatever the stream was written with.
bool inflates_as_qemu_does_to(const Data& stored, const Data& plain) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, -12), Z_OK);
  Data target(plain.size());
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(stored.data()));
  stream.avail_in = static_cast<uInt>(stored.size());
  stream.next_out = reinterpret_cast<Bytef*>(target.data());
  stream.avail_out = static_cast<uInt>(target.size());
  const int result = inflate(&stream, Z_FINISH);
  const bool filled = stream.avail_out == 0;
  inflateEnd(&stream);
  return (result == Z_STREAM_END || result == Z_BUF_ERROR) && filled && target == plain;
}

TEST(Deflate, InAWideWindowIsReadBackAtEveryLevel) {
  for (int level = level_min; level <= level_max; ++level) {
    const auto codec = make_codec(CompressionType::zlib, level, Window::wide);
    for (const Kind kind : all_kinds) {
      SCOPED_TRACE(described(CompressionType::zlib, level, kind, 64 * kibi));
      const Data plain = make_data(kind, 64 * kibi, static_cast<std::uint64_t>(level));
      GuardedMemory target(plain.size() - 1);
      const auto used = codec->compress(plain, target.span());
      EXPECT_TRUE(target.intact());
      EXPECT_EQ(used.has_value(), kind != Kind::random);
      if (!used) continue;
      const Data stored(target.span().begin(), target.span().begin() + static_cast<std::ptrdiff_t>(*used));
      EXPECT_TRUE(reads_as(CompressionType::zlib, stored, plain));
      EXPECT_TRUE(inflates_as_qemu_does_to(stored, plain));
    }
  }
}

TEST(Deflate, AWideWindowFindsWhatANarrowOneCannot) {
  const Data plain = make_data(Kind::far_repeats, 64 * kibi);
  for (int level = level_min; level <= level_max; ++level) {
    Data target(plain.size());
    const auto wide = make_codec(CompressionType::zlib, level, Window::wide)->compress(plain, target);
    ASSERT_TRUE(wide) << level;
    EXPECT_LT(*wide, plain.size() * 2 / 3) << level;
  }
}

TEST(Zstd, HasNoWindowToChoose) {
  EXPECT_THROW(make_codec(CompressionType::zstd, level_default, Window::wide), core::Error);
}

TEST(Deflate, ReadsDistancesOf32KiB) {
  for (const Kind kind : {Kind::far_repeats, Kind::mixed}) {
    const Data plain = make_data(kind, 64 * kibi);
    EXPECT_TRUE(reads_as(CompressionType::zlib, deflated(plain, -15), plain));
  }
}

TEST(Deflate, ReadsAStreamThatGoesOnBehindTheCluster) {
  for (const Kind kind : all_kinds) {
    const Data longer = make_data(kind, 64 * kibi + 777);
    const Data plain(longer.begin(), longer.begin() + 64 * kibi);
    EXPECT_TRUE(reads_as(CompressionType::zlib, deflated(longer, -12), plain));
    EXPECT_TRUE(reads_as(CompressionType::zlib, deflated(longer, -15), plain));
  }
}

TEST(Deflate, RefusesAStreamWithoutAFinalBlockWhereZerosFollow) {
  const Data plain = make_data(Kind::text, 64 * kibi);
  const Data open_ended = deflated(plain, -12, Z_SYNC_FLUSH);
  EXPECT_TRUE(refuses(CompressionType::zlib, concatenated({open_ended, Data(512)}), plain.size()));
  EXPECT_TRUE(reads_as(CompressionType::zlib, open_ended, plain));
}

TEST(Deflate, RefusesAZlibOrGzipWrapper) {
  const Data plain = make_data(Kind::text, 64 * kibi);
  EXPECT_TRUE(refuses(CompressionType::zlib, deflated(plain, 15), plain.size()));
  EXPECT_TRUE(refuses(CompressionType::zlib, deflated(plain, 15 + 16), plain.size()));
}

// ---- zstd ----

TEST(Zstd, ReadsFramesWithAndWithoutSizeAndChecksum) {
  const Data plain = make_data(Kind::text, 64 * kibi);
  for (const bool checksum : {false, true}) {
    for (const bool content_size : {false, true}) {
      EXPECT_TRUE(reads_as(CompressionType::zstd, zstd_frame(plain, checksum, content_size), plain));
    }
  }
}

TEST(Zstd, ReadsSeveralFramesAndSkipsSkippableOnes) {
  const Data first = make_data(Kind::text, 40 * kibi);
  const Data second = make_data(Kind::mixed, 24 * kibi);
  const Data skippable = octets({0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3});
  const Data empty = zstd_frame({});
  const Data whole = concatenated({first, second});
  const auto reads = [&](std::initializer_list<Data> frames) {
    return reads_as(CompressionType::zstd, concatenated(frames), whole);
  };
  EXPECT_TRUE(reads({zstd_frame(first), zstd_frame(second)}));
  EXPECT_TRUE(reads({zstd_frame(first, true, false), zstd_frame(second, true, false)}));
  EXPECT_TRUE(reads({skippable, zstd_frame(first), skippable, empty, zstd_frame(second), skippable}));
  EXPECT_TRUE(reads({zstd_frame(first), zstd_frame(second), zstd_frame(first)}));
}

TEST(Zstd, RefusesAFrameLongerThanTheCluster) {
  const Data frame = zstd_frame(make_data(Kind::text, 64 * kibi + 1));
  EXPECT_TRUE(refuses(CompressionType::zstd, frame, 64 * kibi));
  const Data half = zstd_frame(make_data(Kind::text, 40 * kibi));
  EXPECT_TRUE(refuses(CompressionType::zstd, concatenated({half, half}), 64 * kibi));
}

TEST(Zstd, RefusesFramesThatTogetherAreTooShort) {
  const Data half = zstd_frame(make_data(Kind::text, 20 * kibi));
  EXPECT_TRUE(refuses(CompressionType::zstd, concatenated({half, half}), 64 * kibi));
  EXPECT_TRUE(refuses(CompressionType::zstd, concatenated({half, half, Data(512)}), 64 * kibi));
}

TEST(Zstd, RefusesABadOrMissingChecksum) {
  const Data plain = make_data(Kind::text, 64 * kibi);
  Data frame = zstd_frame(plain, true);
  EXPECT_TRUE(refuses(CompressionType::zstd, Data(frame.begin(), frame.end() - 4), plain.size()));
  EXPECT_TRUE(refuses(CompressionType::zstd, Data(frame.begin(), frame.end() - 1), plain.size()));
  frame.back() ^= std::byte{1};
  EXPECT_TRUE(refuses(CompressionType::zstd, frame, plain.size()));
}

TEST(Zstd, ReadsFramesThatAskForAHugeWindow) {
  for (const unsigned window_log : {10u, 17u, 27u, 28u, 31u}) {
    EXPECT_TRUE(reads_as(CompressionType::zstd, zstd_frame_of_window(window_log, 1024), Data(1024))) << window_log;
  }
}

// ---- zero scan ----

TEST(ZeroScan, FindsASingleByteWhereverItLies) {
  for (const std::size_t size : {1u, 2u, 7u, 8u, 63u, 64u, 65u, 127u, 128u, 129u, 511u, 512u, 4096u, 65536u}) {
    Data data(size);
    EXPECT_TRUE(is_all_zero(data));
    for (std::size_t at = 0; at < size; at += (at >= 300 && at + 300 < size) ? 97 : 1) {
      for (const std::byte value : {std::byte{1}, std::byte{0x80}}) {
        data[at] = value;
        ASSERT_FALSE(is_all_zero(data)) << size << " bytes, not zero at " << at;
      }
      data[at] = std::byte{0};
    }
  }
}

TEST(ZeroScan, StartsAndEndsAtAnyAddress) {
  Data data(1024, std::byte{0xff});
  for (std::size_t start = 0; start < 130; ++start) {
    for (std::size_t length = 0; length < 300; ++length) {
      const core::MutableBytes part = core::MutableBytes(data).subspan(start, length);
      std::ranges::fill(part, std::byte{0});
      ASSERT_TRUE(is_all_zero(part)) << start << " " << length;
      std::ranges::fill(part, std::byte{0xff});
      ASSERT_EQ(is_all_zero(part), length == 0) << start << " " << length;
    }
  }
}

TEST(ZeroScan, NothingIsZero) { EXPECT_TRUE(is_all_zero({})); }

TEST(ZeroScan, DoesNotTakeARepetitionForZeros) {
  for (const std::size_t size : {64u, 128u, 4096u}) EXPECT_FALSE(is_all_zero(Data(size, std::byte{0x11})));
}

TEST(ZeroScan, StaysInsideItsBuffer) {
  for (std::size_t size = 0; size < 200; ++size) {
    GuardedMemory memory(size);
    EXPECT_TRUE(is_all_zero(memory.span()));
  }
}

}  // namespace
}  // namespace qcow2
