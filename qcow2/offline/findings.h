// What a check has found wrong so far.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qcow2 {

/// Counts every problem, and keeps the sentences of the first of them: an image can hold more than memory does.
class Findings {
 public:
  static constexpr std::size_t sentences_max = 1000;

  /// `say()` returns one line about it; it is called only where the line is kept.
  /// `times` of the same kind, with one line for all of them.
  template <class Say>
  void corruption(Say say, std::uint64_t times = 1) {
    corruptions_ += times;
    keep(say);
  }
  template <class Say>
  void leak(Say say) {
    ++leaks_;
    keep(say);
  }
  /// Something that could not be examined; `count` of them for one line.
  template <class Say>
  void unexaminable(std::uint64_t count, Say say) {
    check_errors_ += count;
    keep(say);
  }

  std::uint64_t corruptions() const { return corruptions_; }
  std::uint64_t leaks() const { return leaks_; }
  std::uint64_t check_errors() const { return check_errors_; }
  std::uint64_t sentences_left_out() const { return said_ - sentences_.size(); }
  const std::vector<std::string>& sentences() const { return sentences_; }

 private:
  template <class Say>
  void keep(Say& say) {
    ++said_;
    if (sentences_.size() < sentences_max) sentences_.push_back(say());
  }

  std::uint64_t corruptions_ = 0;
  std::uint64_t leaks_ = 0;
  std::uint64_t check_errors_ = 0;
  std::uint64_t said_ = 0;
  std::vector<std::string> sentences_;
};

/// How an offset is written in a sentence.
std::string in_hex(std::uint64_t value);
/// How a name from an image is: an image may call its parts anything, line breaks included.
std::string in_quotes(const std::string& name);

}  // namespace qcow2
