// Looks at what a power cut could leave, interval by interval, and says what is wrong with it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/crash/crash_states.h"
#include "tests/crash/history.h"
#include "tests/crash/image_walker.h"

namespace crash {

struct Options {
  std::size_t states_per_interval = 60;
  std::uint64_t thorough_every = 32;    ///< one seed of so many sees every subset of up to twelve pending sectors
  std::uint64_t qemu_every = 0;         ///< one state of so many goes to qemu-img too; 0 for none
  std::uint64_t lives_every = 8;        ///< one state of so many is used on; all others are at least opened
  std::uint64_t opens_every = 1;        ///< one state of so many is opened at least
  std::uint64_t only_interval = ~0ull;  ///< replay: judge no other
  std::uint64_t only_state = ~0ull;
  bool details = false;
};

struct Violation {
  std::uint64_t seed = 0;
  std::uint64_t interval = 0;
  std::uint64_t state = 0;
  std::string text;
};

struct Tally {
  std::uint64_t intervals = 0;
  std::uint64_t states = 0;
  std::uint64_t distinct = 0;
  std::uint64_t reopened = 0;
  std::uint64_t second_lives = 0;
  std::uint64_t qemu = 0;
  std::vector<Violation> violations;
};

class Judge {
 public:
  /// What else is to be done with a state that was found clean; what is wrong, or nothing.
  using Further = std::function<std::string(const CrashState&, const Walk&)>;

  Judge(const Options& options, FragmentDecoder& decoder, std::uint64_t seed, Tally& tally)
      : options_(options), walker_(decoder), seed_(seed), tally_(tally) {}
  void further(Further check) { further_ = std::move(check); }
  /// From now on, as long as the image says that autoclear features are up to date, this is the only content it may
  /// show.
  void while_marked(History::Allowed content) { marked_ = std::move(content); }

  /// From now on the image has just these snapshots, and they show just this.
  void keep_snapshots(std::vector<Walk::Content> snapshots) { snapshots_ = std::move(snapshots); }

  void judge_interval(PendingState pending, History& history);
  void report(std::uint64_t state, const std::string& text);
  bool found() const { return found_; }
  std::uint64_t interval() const { return interval_; }

 private:
  std::string judge_state(const CrashState& state, const History::Allowed& allowed);
  std::string judge_snapshots(const Walk& walk) const;
  std::string judge_rewrites(const PendingState& pending, const Walk& durable) const;

  const Options& options_;
  ImageWalker walker_;
  std::uint64_t seed_;
  Tally& tally_;
  Further further_;
  std::optional<History::Allowed> marked_;
  std::vector<Walk::Content> snapshots_;
  std::uint64_t interval_ = 0;
  bool found_ = false;
  std::unordered_set<std::uint64_t> seen_;
};

}  // namespace crash
