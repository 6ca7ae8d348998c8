// Claims   next_refcount() passes over zeros and nothing else, at every width, wherever it starts.
#include "qcow2/format/refcount_view.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace qcow2 {
namespace {

TEST(RefcountView, TheNextIsTheNextThatIsNotZero) {
  std::mt19937_64 random(3);
  for (unsigned order = 0; order <= 6; ++order) {
    for (const std::size_t size : {512, 4096}) {
      for (int round = 0; round < 20; ++round) {
        std::vector<std::byte> bytes(size);
        const std::uint64_t count = size * 8 >> order;
        for (std::uint64_t i = random() % 20; i > 0; --i) set_refcount(bytes, random() % count, order, 1);
        for (const std::uint64_t end : {count, count - random() % count}) {
          std::uint64_t expected = end;
          for (std::uint64_t at = end; at-- > 0;) {
            if (get_refcount(bytes, at, order) != 0) expected = at;
            ASSERT_EQ(next_refcount(bytes, at, end, order), expected) << "order " << order << " from " << at;
          }
          ASSERT_EQ(next_refcount(bytes, end, end, order), end);
        }
      }
    }
  }
}

}  // namespace
}  // namespace qcow2
