#include "fuse/nearest_word.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace fuse {
namespace {

// How many letters must be put in, left out, replaced or exchanged with their neighbour.
std::size_t distance(std::string_view left, std::string_view right) {
  std::vector<std::size_t> before_last(right.size() + 1);
  std::vector<std::size_t> last(right.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t row = 1; row <= left.size(); ++row) {
    std::vector<std::size_t> current(right.size() + 1);
    current[0] = row;
    for (std::size_t column = 1; column <= right.size(); ++column) {
      const std::size_t replaced = last[column - 1] + (left[row - 1] == right[column - 1] ? 0 : 1);
      current[column] = std::min({last[column] + 1, current[column - 1] + 1, replaced});
      if (row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1]) {
        current[column] = std::min(current[column], before_last[column - 2] + 1);
      }
    }
    before_last = std::move(last);
    last = std::move(current);
  }
  return last.back();
}

}  // namespace

std::string nearest_word(std::string_view word, std::span<const std::string_view> known) {
  const std::size_t far = std::max<std::size_t>(1, word.size() / 3) + 1;
  std::size_t least = word.size() < 3 ? 0 : far;
  std::string_view nearest;
  for (const std::string_view candidate : known) {
    const std::size_t here = distance(word, candidate);
    if (here >= least) continue;
    least = here;
    nearest = candidate;
  }
  return std::string(nearest);
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> known) {
  const std::string nearest = nearest_word(word, known);
  return nearest.empty() ? "" : "; did you mean " + nearest + "?";
}

}  // namespace fuse
