// Claim   Whatever the order in which its jobs are performed, the image file knows its own length and loses no byte.
// Method  A real file under the seeded scheduler: writes of any alignment beside each other, then a look at the file.
#include "core/direct_file.h"

#include <gtest/gtest.h>

#include "tests/crash/scratch.h"
#include "tests/crash/session.h"

namespace {

constexpr std::uint64_t slot = 3000;  // bytes of one write, so that neighbours share blocks

core::Awaitable<void> write_slot(core::DirectFile& file, std::uint64_t number, std::uint64_t length) {
  core::Buffer bytes(length);
  for (std::byte& byte : bytes.span()) byte = static_cast<std::byte>('a' + number % 26);
  const core::FileOffset at{number * slot};
  co_await file.write_at(at, bytes.span());
}

core::Awaitable<void> write_whole_block(core::DirectFile& file, std::uint64_t at) {
  const core::Buffer bytes = core::Buffer::zeroed(core::memory_alignment);
  const core::FileOffset where{at};
  co_await file.write_at(where, bytes.span());
}

core::Awaitable<void> write_all_at_once(crash::SeededEngine& engine, core::DirectFile& file, std::uint64_t slots) {
  core::TaskGroup writes(engine.executor());
  for (std::uint64_t i = 0; i < slots; ++i) writes.spawn(write_slot(file, i, slot));
  writes.spawn(write_whole_block(file, 1 << 20));
  co_await writes.join();
}

TEST(DirectFile, KnowsItsLengthAndKeepsEveryByteInAnyOrderOfItsJobs) {
  constexpr std::uint64_t slots = 12;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const crash::ScratchFile scratch("direct");
    scratch.write({});
    crash::SeededEngine engine(seed);
    core::DirectFile file(engine, scratch.path(), core::Access::read_write, core::DirectIo::automatic);
    if (!file.direct()) GTEST_SKIP() << scratch.path() << ": no direct I/O here, so no block has two writers";
    ASSERT_TRUE(crash::drive(engine, write_all_at_once(engine, file, slots)));
    const std::vector<std::byte> content = scratch.read();
    ASSERT_EQ(file.size(), content.size()) << "seed " << seed;
    ASSERT_EQ(content.size(), (1u << 20) + core::memory_alignment);
    for (std::uint64_t i = 0; i < slots * slot; ++i) {
      ASSERT_EQ(content[i], static_cast<std::byte>('a' + i / slot % 26)) << "byte " << i << ", seed " << seed;
    }
  }
}

}  // namespace
