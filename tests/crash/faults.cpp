#include "tests/crash/faults.h"

#include <algorithm>
#include <cerrno>
#include <memory>

#include "tests/crash/session.h"

namespace crash {
namespace {

using Kind = SimulatedDisk::Kind;

constexpr std::uint64_t costly_runs_max = 12;  // of one kind of one seed

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

// One history with one failure, or on a disk with little space.
class FaultRun {
 public:
  FaultRun(std::uint64_t seed, const Profile& profile, const Options& options, FragmentDecoder& decoder, Tally& tally)
      : seed_(seed),
        profile_(profile),
        engine_(mix(seed, 3)),
        disk_(engine_, profile.block_size, profile.sector_size, make_image(profile)),
        history_(profile.create.size),
        judge_(options, decoder, seed, tally) {
    if (profile.device) disk_.be_a_device();
    disk_.before_barrier([this] { look(); });
  }

  // Each returns what is wrong, or nothing.
  std::string run(const SimulatedDisk::Fault& fault) {
    fault_ = fault;
    disk_.add_fault(fault);
    return finish();
  }
  std::string run_within(std::uint64_t capacity) {
    if (profile_.device) return {};  // it has the space that it has: no file system gives it less
    scarce_ = true;
    disk_.set_capacity(capacity);
    return finish();
  }
  std::string run_cut_at(std::uint64_t operation) {
    cut_ = true;
    disk_.cut_at(operation);
    return finish();
  }
  std::string run_without() { return finish(); }
  std::uint64_t operations() const { return disk_.operations(); }
  std::uint64_t count(Kind kind) const { return disk_.count(kind); }
  std::uint64_t file_size() const { return disk_.size(); }

 private:
  void look() { judge_.judge_interval(disk_.pending(), history_); }
  bool out_of_space() const { return scarce_ || fault_.error == ENOSPC; }
  // What was written may be lost, and nobody can know.
  bool sticky() const {
    if (cut_) return disk_.lost_changes();
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
    const std::shared_ptr<core::BlockFile> file = disk_.opened();
    std::unique_ptr<core::GuestDisk> disk;
    try {
      disk = co_await qcow2::open_image(engine_, *file, profile_.open);
    } catch (const std::exception& error) {
      expect(disk_.faults_hit() != 0, "does not open");
      co_return;
    }
    Guest guest(engine_, *disk, history_, profile_.habits, seed_);
    co_await guest.live();
    bool told = guest.told();
    const bool told_by_flush = co_await flush_fails(guest);
    told = told || told_by_flush;
    const bool stays_full = seed_ % 4 == 0;  // then it is the close that has to end all the same
    if (out_of_space() && !stays_full) {
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
    expect(!scarce_ || disk_.writes_without_space() == 0, "more was accepted than there was space for");
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
    disk_.lift_capacity();
    bool fails = true;
    // Writes that were under way when the space came are told of the lack of it all the same, one by one at worst.
    const std::size_t attempts = 4 + disk_.in_flight();
    for (std::size_t attempt = 0; attempt < attempts && fails; ++attempt) fails = co_await flush_fails(guest);
    expect(!fails, "a flush fails although there is space again");
    expect(!disk.failure().failed(), "failure() remembers a lack of space that is over");
  }

  std::uint64_t seed_;
  Profile profile_;
  SimulatedDisk::Fault fault_;
  bool scarce_ = false;
  bool cut_ = false;
  SeededEngine engine_;
  SimulatedDisk disk_;
  History history_;
  Judge judge_;
  std::string wrong_;
};

// All runs of one seed.
class FaultRuns {
 public:
  FaultRuns(std::uint64_t seed, const Options& options, FragmentDecoder& decoder, Tally& tally)
      : seed_(seed), profile_(draw_profile(seed)), options_(options), decoder_(decoder), tally_(tally) {
    profile_.habits.operations = std::min(profile_.habits.operations, 14u);
    // A compaction that waits for space has nobody beside it who asks again.
    profile_.habits.compactions = profile_.habits.opening_presses = 0;
  }

  void all() {
    FaultRun whole(seed_, profile_, options_, decoder_, tally_);
    const std::string wrong = whole.run_without();
    if (!wrong.empty()) return report(0, "without a failure", wrong);
    for (const Kind kind : {Kind::read, Kind::write, Kind::barrier, Kind::reserve}) {
      for (const int error : {EIO, ENOSPC}) {
        const bool space = error == ENOSPC;
        if (space && (kind == Kind::read || kind == Kind::barrier)) continue;
        const SimulatedDisk::Fault fault{kind, 0, error, space || seed_ % 3 == 0};
        fail_each(fault, whole.count(kind));
      }
    }
    run_out_of_space(whole.file_size());
    cut_the_way(whole.operations());
  }

 private:
  void fail_each(const SimulatedDisk::Fault& like, std::uint64_t count) {
    const std::string what = std::string("failing ") + name_of(like.kind) + " with " + std::to_string(like.error) +
                             (like.persistent ? " for good" : "");
    const bool costly = profile_.create.cluster_size > 65536;  // as long as all others: only some operations fail
    const std::uint64_t stride = costly ? std::max<std::uint64_t>(1, count / costly_runs_max) : 1;
    for (std::uint64_t k = seed_ % stride; k < count && tally_.violations.empty(); k += stride) {
      SimulatedDisk::Fault fault = like;
      fault.index = k;
      try_once(k, what, [&fault](FaultRun& run) { return run.run(fault); });
    }
  }

  // From no space beyond the fresh image's to as much as the history took without want.
  void run_out_of_space(std::uint64_t size) {
    constexpr std::uint64_t steps = 8;
    for (std::uint64_t i = 0; i < steps && tally_.violations.empty(); ++i) {
      const std::uint64_t capacity = size * i / steps;
      try_once(i, "capacity " + std::to_string(capacity),
               [capacity](FaultRun& run) { return run.run_within(capacity); });
    }
  }

  // To a disk on a server, as a rule; no disk may mind.
  void cut_the_way(std::uint64_t operations) {
    constexpr std::uint64_t cuts = 24;
    const std::uint64_t stride = std::max<std::uint64_t>(1, operations / cuts);
    for (std::uint64_t k = seed_ % stride; k < operations && tally_.violations.empty(); k += stride) {
      try_once(k, "cutting the way", [k](FaultRun& run) { return run.run_cut_at(k); });
    }
  }

  template <class Attempt>
  void try_once(std::uint64_t number, const std::string& what, Attempt attempt) {
    auto run = std::make_unique<FaultRun>(seed_, profile_, options_, decoder_, tally_);
    const std::string wrong = attempt(*run);
    ++tally_.second_lives;
    if (wrong.empty()) return;
    report(number, what, wrong);
    run.release();  // what hangs or is in disorder cannot be taken down
  }

  void report(std::uint64_t number, const std::string& what, const std::string& wrong) {
    tally_.violations.push_back({seed_, number, 0, " " + what + ": " + wrong});
  }

  std::uint64_t seed_;
  Profile profile_;
  const Options& options_;
  FragmentDecoder& decoder_;
  Tally& tally_;
};

}  // namespace

void fail_everything(std::uint64_t seed, const Options& options, FragmentDecoder& decoder, Tally& tally) {
  decoder.forget_if_large();
  FaultRuns(seed, options, decoder, tally).all();
}

}  // namespace crash
