// The images that a power cut in one interval between two barriers may leave: which of them are looked at.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "tests/crash/image_walker.h"
#include "tests/crash/random.h"
#include "tests/crash/simulated_disk.h"

namespace crash {

struct CrashState {
  std::uint64_t number = 0;  ///< within its interval
  const char* family = "";   ///< how it was chosen
  std::string mask;          ///< what is kept: only where it was asked for
  std::uint64_t hash = 0;    ///< of its content: equal images have equal ones
  core::Bytes image;         ///< borrowed until the visit ends
};

/// Every subset where there are few; else all, none, every subset of the classes of sectors, each single thing kept,
/// each single thing lost, pairs of them, and seeded random subsets, class by class and thing by thing, up to the
/// budget. The pending state must stay as it is; its image is changed during a visit and restored after it.
class CrashStates {
 public:
  struct Budget {
    std::size_t sampled = 60;     ///< states where not all are taken
    std::size_t exhaustive = 64;  ///< all are taken where they are not more than this
  };
  CrashStates(PendingState& pending, ImageWalker& walker, std::uint64_t seed, Budget budget);

  /// `only` picks one state by its number. The visitor returns false to end.
  void visit(const std::function<bool(const CrashState&)>& visitor, bool with_masks = false,
             std::uint64_t only = ~0ull);
  const Walk& durable_walk() const { return durable_walk_; }
  /// For a person: every pending thing, its class and its versions.
  std::string describe() const;

 private:
  static constexpr std::size_t classes = 9;  // those of Use, with nothing for data, then size and punch
  using Choice = std::vector<std::uint8_t>;  // by slot: sectors, then the size, then holes; 0 is the durable content
  struct Slot {
    std::uint8_t options = 2;  // versions, the durable one included
    std::uint8_t kind = 0;     // class
  };

  void find_slots();
  void classify();
  void plan();
  void plan_all_subsets();
  void plan_classes();
  void plan_singles();
  void plan_pairs();
  void plan_random();
  void add(const char* family, Choice choice);
  Choice uniform(bool newest) const;
  double combinations() const;

  std::uint64_t apply(const Choice& choice);  // the hash
  void restore(const Choice& choice);
  std::uint64_t length_of(const Choice& choice) const;
  std::string mask_of(const Choice& choice) const;
  void for_each_hole_sector(const Choice& choice, const std::function<void(std::uint64_t at)>& body) const;

  PendingState& pending_;
  ImageWalker& walker_;
  Random random_;
  std::size_t budget_;
  std::size_t exhaustive_;
  std::vector<Slot> slots_;
  std::size_t size_slot_ = 0;
  std::vector<Image> originals_;  // durable content of the sectors
  std::vector<std::pair<std::uint64_t, Image>> hole_originals_;
  std::uint64_t base_hash_ = 0;  // of everything but the pending sectors
  std::vector<std::pair<const char*, Choice>> planned_;
  Walk durable_walk_;
};

}  // namespace crash
