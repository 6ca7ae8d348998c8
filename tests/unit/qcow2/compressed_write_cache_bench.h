// What the tests of the compressed write cache share: a cache on a scripted file, and what they write into
// it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "core/error.h"
#include "qcow2/host/compressed_write_cache.h"
#include "qcow2/limits.h"
#include "tests/support/run.h"
#include "tests/support/scripted_file.h"

namespace qcow2::cache_test {

using Kind = test::ScriptedFile::Kind;
using Operation = test::ScriptedFile::Operation;
using Bytes = std::vector<std::byte>;

inline constexpr std::uint64_t block = 512;
inline constexpr std::uint64_t cluster = 4096;
inline constexpr std::uint64_t kib = 1024;

/// What a test writes at a place: never zero, so that padding shows.
inline Bytes sample(std::uint64_t at, std::uint64_t length) {
  Bytes bytes(length);
  for (std::uint64_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>((at + i) * 0x9E3779B1u >> 13 | 1);
  return bytes;
}

inline core::SharedBytes shared(const Bytes& bytes) {
  const auto owner = std::make_shared<Bytes>(bytes);
  return {owner, *owner};
}

inline Bytes zeros(std::uint64_t length) { return Bytes(length); }

struct Setup {
  std::uint64_t cluster_size = cluster;
  std::uint64_t clusters = 8;
  std::uint64_t block_size = block;
  std::uint64_t gathered = 0;  ///< clusters that wait for each other
};

/// A cache on a scripted file. At the end of each test it stops, and the file must have nothing to complain
/// of.
class Bench {
 public:
  explicit Bench(const Setup& setup = {})
      : file(engine, setup.block_size),
        cache(engine, file, setup.cluster_size, setup.clusters * setup.cluster_size,
              setup.gathered * setup.cluster_size) {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    file.release(Kind::write);
    file.release(Kind::read);
    engine.settle();
    const test::Started<void> stopped = test::start(engine, cache.stop());
    engine.settle();
    EXPECT_TRUE(stopped.done());
    EXPECT_EQ(file.fault(), "");
  }

  test::Started<void> start_write(std::uint64_t at, std::uint64_t length) {
    return test::start(engine, cache.write({at}, shared(sample(at, length))));
  }
  void write(std::uint64_t at, std::uint64_t length) { start_write(at, length).get(); }
  test::Started<void> start_flush() { return test::start(engine, cache.flush()); }
  void flush() { start_flush().get(); }
  test::Started<void> start_discard(std::uint64_t at) { return test::start(engine, cache.discard({at})); }
  Bytes read(std::uint64_t at, std::uint64_t length) {
    Bytes bytes(length, std::byte{0xEE});
    test::run(engine, cache.read({at}, bytes));
    return bytes;
  }
  void release_one() {
    EXPECT_TRUE(file.release_one(Kind::write));
    engine.settle();
  }
  void release() {
    file.release(Kind::write);
    engine.settle();
  }
  std::vector<Operation> writes() const { return file.operations(Kind::write); }
  std::size_t reads() const { return file.count(Kind::read); }

  /// Clusters 100, 102, 104, 106 full and held on their way: no other write takes off.
  void occupy_all_flights(std::uint64_t cluster_size = cluster) {
    file.hold(Kind::write);
    for (std::uint64_t i = 0; i < file.depth(); ++i) {
      write((100 + 2 * i) * cluster_size, cluster_size);
    }
    ASSERT_EQ(file.held(Kind::write), file.depth());
  }

  test::TestEngine engine;
  test::ScriptedFile file;
  CompressedWriteCache cache;
};

template <class Value>
int error_of(const test::Started<Value>& started) {
  try {
    started.get();
  } catch (const core::Error& error) {
    return error.code().value();
  }
  return 0;
}

}  // namespace qcow2::cache_test
