#include "tests/crash/crash_states.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "tests/crash/content_hash.h"

namespace crash {
namespace {

constexpr std::uint8_t size_class = 7;
constexpr std::uint8_t punch_class = 8;
constexpr std::size_t versions_max = 250;

constexpr const char* class_names[] = {"unnamed", "header", "refcount table", "refcount block", "L1", "L2", "data",
                                       "size",    "hole"};

std::uint64_t sector_sum(std::uint64_t at, core::Bytes bytes) {
  std::uint64_t sum = 0;
  for (std::size_t done = 0; done + guest_sector <= bytes.size(); done += guest_sector) {
    const std::uint64_t hash = hash_sector(bytes.subspan(done, guest_sector));
    if (hash != zero_hash) sum += mix(at + done, hash);
  }
  return sum;
}

}  // namespace

CrashStates::CrashStates(PendingState& pending, ImageWalker& walker, std::uint64_t seed, Budget budget)
    : pending_(pending), walker_(walker), random_(seed), budget_(budget.sampled), exhaustive_(budget.exhaustive) {
  find_slots();
  classify();
  plan();
}

void CrashStates::find_slots() {
  const Image& image = *pending_.durable;
  base_hash_ = sector_sum(0, core::Bytes(image).first(image.size() / guest_sector * guest_sector));
  for (const PendingState::Sector& sector : pending_.sectors) {
    const core::Bytes durable = core::Bytes(image).subspan(sector.at, pending_.sector_size);
    originals_.emplace_back(durable.begin(), durable.end());
    base_hash_ -= sector_sum(sector.at, durable);
    slots_.push_back({static_cast<std::uint8_t>(std::min(sector.versions.size(), versions_max) + 1), 0});
  }
  size_slot_ = slots_.size();
  slots_.push_back({static_cast<std::uint8_t>(std::min(pending_.sizes.size(), versions_max)), size_class});
  for (std::size_t i = 0; i < pending_.holes.size(); ++i) slots_.push_back({2, punch_class});
}

// A sector is what the tables say about its cluster when everything is kept, or else when nothing is.
void CrashStates::classify() {
  const Choice all = uniform(true);
  apply(all);
  const Walk newest = walker_.walk(core::Bytes(*pending_.durable).first(length_of(all)));
  restore(all);
  durable_walk_ = walker_.walk(core::Bytes(*pending_.durable).first(pending_.sizes.front()));
  for (std::size_t i = 0; i < size_slot_; ++i) {
    Use use = Use::nothing;
    for (const Walk* walk : {&newest, static_cast<const Walk*>(&durable_walk_)}) {
      const std::uint64_t cluster = walk->cluster_size == 0 ? ~0ull : pending_.sectors[i].at / walk->cluster_size;
      if (use == Use::nothing && cluster < walk->uses.size()) use = walk->uses[cluster];
    }
    slots_[i].kind = static_cast<std::uint8_t>(use);
  }
}

CrashStates::Choice CrashStates::uniform(bool newest) const {
  Choice choice(slots_.size());
  for (std::size_t i = 0; newest && i < slots_.size(); ++i) {
    choice[i] = static_cast<std::uint8_t>(slots_[i].options - 1);
  }
  return choice;
}

double CrashStates::combinations() const {
  double product = 1;
  for (const Slot& slot : slots_) product *= slot.options;
  return product;
}

void CrashStates::add(const char* family, Choice choice) { planned_.emplace_back(family, std::move(choice)); }

void CrashStates::plan() {
  add("all", uniform(true));
  add("none", uniform(false));
  if (combinations() <= static_cast<double>(exhaustive_)) {
    plan_all_subsets();
    return;
  }
  plan_classes();
  plan_singles();
  plan_pairs();
  plan_random();
}

void CrashStates::plan_all_subsets() {
  Choice choice = uniform(false);
  for (;;) {
    std::size_t slot = 0;
    while (slot < slots_.size() && ++choice[slot] == slots_[slot].options) choice[slot++] = 0;
    if (slot == slots_.size()) return;
    add("subset", choice);
  }
}

void CrashStates::plan_classes() {
  std::vector<std::uint8_t> present;
  for (const Slot& slot : slots_) {
    if (slot.options > 1 && std::find(present.begin(), present.end(), slot.kind) == present.end()) {
      present.push_back(slot.kind);
    }
  }
  for (std::size_t subset = 1; subset + 1 < 1ull << present.size() && planned_.size() < budget_; ++subset) {
    Choice choice = uniform(false);
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const auto place = std::find(present.begin(), present.end(), slots_[i].kind) - present.begin();
      if ((subset >> place & 1) != 0) choice[i] = static_cast<std::uint8_t>(slots_[i].options - 1);
    }
    add("classes", choice);
  }
}

// Each once where the budget has room for all of them, else a part.
void CrashStates::plan_singles() {
  const std::size_t room = budget_ > planned_.size() ? (budget_ - planned_.size()) / 2 : 0;
  const std::size_t wanted = slots_.size() * 2;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    for (const bool others : {false, true}) {
      if (wanted > room && random_.below(wanted) >= room) continue;
      Choice choice = uniform(others);
      choice[i] = others ? 0 : static_cast<std::uint8_t>(slots_[i].options - 1);
      add(others ? "one lost" : "one kept", choice);
    }
  }
}

void CrashStates::plan_pairs() {
  const std::size_t room = budget_ > planned_.size() ? (budget_ - planned_.size()) / 3 : 0;
  for (std::size_t count = 0; count < room; ++count) {
    const bool others = random_.chance(50);
    Choice choice = uniform(others);
    for (int one = 0; one < 2; ++one) {
      const std::size_t i = random_.below(slots_.size());
      choice[i] = others ? 0 : static_cast<std::uint8_t>(slots_[i].options - 1);
    }
    add("pairs", choice);
  }
}

void CrashStates::plan_random() {
  while (planned_.size() < budget_) {
    // Every class is kept, lost or mixed in a proportion of its own.
    std::array<std::uint64_t, classes> share{};
    for (std::uint64_t& percent : share) {
      const std::uint64_t mode = random_.below(4);
      percent = mode == 0 ? 0 : mode == 1 ? 100 : random_.between(5, 95);
    }
    const bool any_version = random_.chance(50);
    Choice choice(slots_.size());
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const std::uint8_t newest = static_cast<std::uint8_t>(slots_[i].options - 1);
      if (newest == 0 || random_.below(100) >= share[slots_[i].kind]) continue;
      choice[i] = any_version ? static_cast<std::uint8_t>(random_.between(1, newest)) : newest;
    }
    add("random", choice);
  }
}

// ---- one state

std::uint64_t CrashStates::length_of(const Choice& choice) const { return pending_.sizes[choice[size_slot_]]; }

void CrashStates::for_each_hole_sector(const Choice& choice, const std::function<void(std::uint64_t)>& body) const {
  for (std::size_t i = 0; i < pending_.holes.size(); ++i) {
    if (choice[size_slot_ + 1 + i] == 0) continue;
    const PendingState::Hole& hole = pending_.holes[i];
    for (std::uint64_t at = hole.at; at < hole.at + hole.length; at += pending_.sector_size) {
      if (at + pending_.sector_size > pending_.durable->size()) break;
      const auto sector =
          std::lower_bound(pending_.sectors.begin(), pending_.sectors.end(), at,
                           [](const PendingState::Sector& s, std::uint64_t value) { return s.at < value; });
      if (sector != pending_.sectors.end() && sector->at == at) {
        const std::uint8_t chosen = choice[static_cast<std::size_t>(sector - pending_.sectors.begin())];
        if (chosen != 0 && sector->written[chosen - 1u] > hole.punched) continue;  // written after the punch
      }
      body(at);
    }
  }
}

std::uint64_t CrashStates::apply(const Choice& choice) {
  Image& image = *pending_.durable;
  const std::uint64_t length = length_of(choice);
  std::uint64_t hash = base_hash_;
  for (std::size_t i = 0; i < size_slot_; ++i) {
    const PendingState::Sector& sector = pending_.sectors[i];
    const std::byte* bytes = choice[i] == 0 ? originals_[i].data() : sector.versions[choice[i] - 1u];
    if (choice[i] != 0) std::memcpy(image.data() + sector.at, bytes, pending_.sector_size);
    if (sector.at < length) hash += sector_sum(sector.at, {bytes, pending_.sector_size});
  }
  hole_originals_.clear();
  for_each_hole_sector(choice, [&](std::uint64_t at) {
    const auto first = image.begin() + static_cast<std::ptrdiff_t>(at);
    hole_originals_.emplace_back(at, Image(first, first + static_cast<std::ptrdiff_t>(pending_.sector_size)));
    hash -= sector_sum(at, hole_originals_.back().second);
    std::memset(image.data() + at, 0, pending_.sector_size);
  });
  return mix(hash, length);
}

void CrashStates::restore(const Choice& choice) {
  Image& image = *pending_.durable;
  for (const auto& [at, bytes] : hole_originals_) std::memcpy(image.data() + at, bytes.data(), bytes.size());
  hole_originals_.clear();
  for (std::size_t i = 0; i < size_slot_; ++i) {
    if (choice[i] == 0) continue;
    std::memcpy(image.data() + pending_.sectors[i].at, originals_[i].data(), pending_.sector_size);
  }
}

std::string CrashStates::mask_of(const Choice& choice) const {
  std::string text;
  for (std::size_t i = 0; i < choice.size(); ++i) {
    const std::uint8_t digit = choice[i];
    text += digit < 10 ? static_cast<char>('0' + digit) : '+';
  }
  return text;
}

std::string CrashStates::describe() const {
  std::string text;
  for (std::size_t i = 0; i < size_slot_; ++i) {
    const PendingState::Sector& sector = pending_.sectors[i];
    text += "    " + std::to_string(i) + ": " + class_names[slots_[i].kind] + " at " + std::to_string(sector.at) +
            ", written by";
    for (const std::uint64_t operation : sector.written) text += " #" + std::to_string(operation);
    text += "\n";
  }
  text += "    " + std::to_string(size_slot_) + ": size";
  for (const std::uint64_t size : pending_.sizes) text += " " + std::to_string(size);
  for (const PendingState::Hole& hole : pending_.holes) {
    text += "\n    hole at " + std::to_string(hole.at) + " of " + std::to_string(hole.length);
  }
  return text + "\n";
}

void CrashStates::visit(const std::function<bool(const CrashState&)>& visitor, bool with_masks, std::uint64_t only) {
  std::unordered_set<std::uint64_t> seen;
  for (std::size_t i = 0; i < planned_.size(); ++i) {
    if (only != ~0ull && i != only) continue;
    const auto& [family, choice] = planned_[i];
    CrashState state;
    state.number = i;
    state.family = family;
    if (with_masks) state.mask = mask_of(choice);
    state.hash = apply(choice);
    state.image = core::Bytes(*pending_.durable).first(length_of(choice));
    const bool goes_on = !seen.insert(state.hash).second || visitor(state);
    restore(choice);
    if (!goes_on) return;
  }
}

}  // namespace crash
