#include "tests/crash/judge.h"

#include <algorithm>
#include <cstdio>

namespace crash {

void Judge::report(std::uint64_t state, const std::string& text) {
  tally_.violations.push_back({seed_, interval_, state, text});
  found_ = true;
}

// Durable fragments that something names are never written again, whatever is written there: the sector around them
// might be torn on a disk worse than the model.
std::string Judge::judge_rewrites(const PendingState& pending, const Walk& durable) const {
  std::vector<HostRange> data = durable.data;
  std::sort(data.begin(), data.end(), [](const HostRange& a, const HostRange& b) { return a.at < b.at; });
  for (const PendingState::Range& write : pending.writes) {
    auto next = std::lower_bound(data.begin(), data.end(), write.at,
                                 [](const HostRange& range, std::uint64_t at) { return range.at < at; });
    while (next != data.begin() && std::prev(next)->at + durable.cluster_size * 2 > write.at) --next;
    for (; next != data.end() && next->at < write.at + write.length; ++next) {
      if (next->overwritable || next->at + next->length <= write.at) continue;
      return "durable data at " + std::to_string(next->at) + " that is named was rewritten by a write at " +
             std::to_string(write.at);
    }
  }
  return {};
}

std::string Judge::judge_snapshots(const Walk& walk) const {
  if (walk.snapshots.size() != snapshots_.size())
    return "it has " + std::to_string(walk.snapshots.size()) + " snapshots";
  const auto same = [](const GuestClusterContent& one, const GuestClusterContent& other) {
    const bool zero = one.hashes == nullptr || other.hashes == nullptr;
    return one.index == other.index && (zero ? one.hashes == other.hashes : *one.hashes == *other.hashes);
  };
  for (std::size_t i = 0; i < snapshots_.size(); ++i) {
    const Walk::Content& now = walk.snapshots[i];
    if (!std::equal(now.begin(), now.end(), snapshots_[i].begin(), snapshots_[i].end(), same)) {
      return "snapshot " + std::to_string(i) + " shows something else than when it was taken";
    }
  }
  return {};
}

std::string Judge::judge_state(const CrashState& state, const History::Allowed& allowed) {
  const Walk walk = walker_.walk(state.image);
  if (!walk.clean()) return walk.wrong.empty() ? "not an image" : walk.wrong.front();
  std::string text = allowed.judge(walk);
  if (text.empty()) text = judge_snapshots(walk);
  if (text.empty() && marked_ && walk.autoclear_features != 0) {
    text = marked_->judge(walk);
    if (!text.empty()) text = "changed while its autoclear features say it is not: " + text;
  }
  if (text.empty() && further_) text = further_(state, walk);
  return text;
}

void Judge::judge_interval(PendingState pending, History& history) {
  const std::uint64_t interval = interval_;
  if (found_ || (options_.only_interval != ~0ull && interval != options_.only_interval)) {
    ++interval_;
    return;
  }
  ++tally_.intervals;
  const History::Allowed allowed = history.allowed();
  const bool thorough = options_.thorough_every != 0 && seed_ % options_.thorough_every == 0;
  const CrashStates::Budget budget{options_.states_per_interval, thorough ? 4096 : options_.states_per_interval};
  CrashStates states(pending, walker_, mix(seed_, interval), budget);
  if (options_.details)
    std::printf("interval %ju\n%s", static_cast<std::uintmax_t>(interval), states.describe().c_str());
  if (const std::string text = judge_rewrites(pending, states.durable_walk()); !text.empty()) report(0, text);
  const auto visitor = [&](const CrashState& state) {
    ++tally_.states;
    if (seen_.insert(state.hash).second) ++tally_.distinct;
    const std::string text = judge_state(state, allowed);
    if (options_.details) {
      std::printf("  state %ju %s %s: %s\n", static_cast<std::uintmax_t>(state.number), state.family,
                  state.mask.c_str(), text.empty() ? "clean" : text.c_str());
    }
    if (!text.empty()) report(state.number, std::string(state.family) + ": " + text);
    return text.empty();
  };
  if (!found_) states.visit(visitor, options_.details, options_.only_state);
  ++interval_;
}

}  // namespace crash
