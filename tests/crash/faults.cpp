#include "tests/crash/faults.h"

#include <algorithm>
#include <cerrno>
#include <memory>

#include "tests/crash/session.h"

namespace crash {
namespace {

using Kind = SimulatedDisk::Kind;

constexpr std::uint64_t runs_max = 24;  // of one kind of one seed

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::read: return "read";
    case Kind::write: return "write";
    case Kind::barrier: return "barrier";
    case Kind::truncate: return "truncate";
    case Kind::reserve: return "reserve";
    case Kind::punch: return "punch";
  }
  return "";
}

// One history with one failure.
class FaultRun {
 public:
  FaultRun(std::uint64_t seed, const Profile& profile, const Options& options, FragmentDecoder& decoder, Tally& tally)
      : seed_(seed),
        profile_(profile),
        engine_(mix(seed, 3)),
        disk_(engine_, profile.block_size, profile.sector_size, make_image(profile)),
        history_(profile.create.size),
        judge_(options, decoder, seed, tally) {
    disk_.before_barrier([this] { look(); });
  }

  /// Empty, or what is wrong.
  std::string run(const SimulatedDisk::Fault& fault) {
    fault_ = fault;
    disk_.add_fault(fault);
    return finish();
  }
  std::string run_without() { return finish(); }
  std::uint64_t count(Kind kind) const { return disk_.count(kind); }

 private:
  void look() { judge_.judge_interval(disk_.pending(), history_); }
  bool out_of_space() const { return fault_.error == ENOSPC; }
  // What was written may be lost, and nobody can know.
  bool sticky() const {
    const bool writes = fault_.kind == Kind::write || fault_.kind == Kind::barrier;
    return disk_.faults_hit() != 0 && !out_of_space() && writes;
  }

  std::string finish() {
    const bool ended = drive(engine_, live());
    if (!ended) return "hangs";
    look();
    if (!disk_.misuse().empty()) return disk_.misuse();
    if (judge_.found()) return "see above";
    return wrong_;
  }

  void expect(bool condition, const char* what) {
    if (!condition && wrong_.empty()) wrong_ = what;
  }

  core::Awaitable<void> live() {
    std::unique_ptr<core::GuestDisk> disk;
    try {
      disk = co_await qcow2::open_image(engine_, disk_, profile_.open);
    } catch (const std::exception& error) {
      expect(disk_.faults_hit() != 0, "does not open");
      co_return;
    }
    Guest guest(engine_, *disk, history_, profile_.habits, seed_);
    co_await guest.live();
    bool told = guest.told();
    const bool told_by_flush = co_await flush_fails(guest);
    told = told || told_by_flush;
    if (out_of_space()) {
      co_await expect_recovery(guest, *disk);
    } else if (sticky()) {
      const bool still = co_await flush_fails(guest);
      expect(still, "a flush succeeds after a write or a barrier has failed");
      expect(disk->failure().failed(), "failure() is none after a write or a barrier has failed");
    }
    const bool was_sticky = sticky();
    const bool closing_fails = co_await close_fails(*disk);
    told = told || closing_fails;
    expect(!was_sticky || closing_fails, "close() succeeds after a write or a barrier has failed");
    // A read that fails once may succeed when it is tried again; space that is not set aside may be there all the same.
    expect(told || !was_sticky, "nobody was told of the failure");
    expect(!told || disk_.faults_hit() != 0, "an error although nothing failed");
    expect(guest.wrong().empty(), "a read showed something else");
  }

  core::Awaitable<bool> flush_fails(Guest& guest) {
    try {
      co_await guest.flush();
    } catch (const std::exception&) {
      co_return true;
    }
    co_return false;
  }

  core::Awaitable<bool> close_fails(core::GuestDisk& disk) {
    const std::uint64_t token = history_.begin_flush();
    try {
      co_await disk.close();
      history_.complete_flush(token);
    } catch (const std::exception&) {
      co_return true;
    }
    co_return false;
  }

  core::Awaitable<void> expect_recovery(Guest& guest, core::GuestDisk& disk) {
    disk_.clear_faults();
    bool fails = true;
    // Writes that were under way when the space came are told of the lack of it all the same.
    for (int attempt = 0; attempt < 4 && fails; ++attempt) fails = co_await flush_fails(guest);
    expect(!fails, "a flush fails although there is space again");
    expect(!disk.failure().failed(), "failure() remembers a lack of space that is over");
  }

  std::uint64_t seed_;
  Profile profile_;
  SimulatedDisk::Fault fault_;
  SeededEngine engine_;
  SimulatedDisk disk_;
  History history_;
  Judge judge_;
  std::string wrong_;
};

void fail_each(std::uint64_t seed, const Profile& profile, const SimulatedDisk::Fault& like, std::uint64_t count,
               const Options& options, FragmentDecoder& decoder, Tally& tally) {
  const std::uint64_t stride = std::max<std::uint64_t>(1, count / runs_max);
  for (std::uint64_t k = seed % stride; k < count && tally.violations.empty(); k += stride) {
    SimulatedDisk::Fault fault = like;
    fault.index = k;
    auto run = std::make_unique<FaultRun>(seed, profile, options, decoder, tally);
    const std::string wrong = run->run(fault);
    ++tally.second_lives;
    if (wrong.empty()) continue;
    tally.violations.push_back({seed, k, 0,
                                std::string(" failing ") + name_of(fault.kind) + " with " +
                                    std::to_string(fault.error) + (fault.persistent ? " for good: " : ": ") + wrong});
    run.release();  // what hangs or is in disorder cannot be taken down
  }
}

}  // namespace

void fail_everything(std::uint64_t seed, const Options& options, FragmentDecoder& decoder, Tally& tally) {
  Profile profile = draw_profile(seed);
  decoder.forget_if_large();
  profile.habits.operations = std::min(profile.habits.operations, 14u);
  FaultRun whole(seed, profile, options, decoder, tally);
  const std::string wrong = whole.run_without();
  if (!wrong.empty()) return tally.violations.push_back({seed, 0, 0, " without a failure: " + wrong});
  for (const Kind kind : {Kind::read, Kind::write, Kind::barrier, Kind::reserve}) {
    for (const int error : {EIO, ENOSPC}) {
      const bool space = error == ENOSPC;
      if (space && (kind == Kind::read || kind == Kind::barrier)) continue;
      const SimulatedDisk::Fault fault{kind, 0, error, space || seed % 3 == 0};
      fail_each(seed, profile, fault, whole.count(kind), options, decoder, tally);
    }
  }
}

}  // namespace crash
