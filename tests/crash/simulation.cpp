#include "tests/crash/simulation.h"

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "qcow2/format/header.h"
#include "tests/crash/qemu_judge.h"
#include "tests/crash/qemu_snapshot.h"
#include "tests/crash/session.h"

namespace crash {
namespace {

// A bit that means nothing yet: whoever does not know it must clear it before changing anything.
constexpr std::array<std::byte, 8> autoclear_feature{std::byte{0x40}};

// The objects of a power-on. What hangs cannot be taken down in order: it is left alone then.
struct Machine {
  Machine(std::uint64_t seed, const Profile& profile, Image image, History first)
      : engine(seed),
        disk(engine, profile.block_size, profile.sector_size, std::move(image)),
        history(std::move(first)) {
    if (profile.device) disk.be_a_device();
  }
  SeededEngine engine;
  SimulatedDisk disk;
  History history;
};

std::string complaint(const Outcome& outcome) {
  if (!outcome.wrong.empty()) return outcome.wrong;
  if (!outcome.failure.empty()) return (outcome.opened ? "the guest was told: " : "does not open: ") + outcome.failure;
  return {};
}

class Checks {
 public:
  Checks(const Profile& profile, const Options& options, std::uint64_t seed, FragmentDecoder& decoder, Tally& tally)
      : profile_(profile), options_(options), seed_(seed), decoder_(decoder), tally_(tally) {}

  std::string operator()(const CrashState& state, const Walk& walk) {
    const std::uint64_t draw = mix(seed_, state.hash);
    std::string text;
    if (options_.qemu_every != 0 && (draw % options_.qemu_every == 0 || is_first_of_its_family(state))) {
      ++tally_.qemu;
      text = ask_qemu(state.image, walk, decoder_);
    }
    const bool lives = options_.lives_every != 0 && mix(draw) % options_.lives_every == 0;
    const bool opens = options_.opens_every != 0 && mix(draw) % options_.opens_every == 0;
    if (!text.empty() || (!lives && !opens)) return text;
    ++(lives ? tally_.second_lives : tally_.reopened);
    const bool details = options_.details && options_.only_state != ~0ull;
    return live_again(state, walk, profile_, draw, decoder_, {!lives, details});
  }

 private:
  // Of some seeds qemu-img sees every family of states at least once.
  bool is_first_of_its_family(const CrashState& state) {
    return seed_ % 16 == 0 && families_.insert(state.family).second;
  }

  const Profile& profile_;
  const Options& options_;
  std::uint64_t seed_;
  FragmentDecoder& decoder_;
  Tally& tally_;
  std::set<std::string> families_;
};

std::uint64_t leaks_in(const Machine& machine, FragmentDecoder& decoder) {
  return ImageWalker(decoder).walk(machine.disk.content()).leaks;
}

// From now on every state must show it unchanged.
void take_snapshot(Machine& machine, Judge& judge, FragmentDecoder& decoder) {
  const std::optional<Image> image = with_snapshot(machine.disk.content());
  if (!image) return;
  machine.disk.change_durably(0, *image);
  judge.keep_snapshots(ImageWalker(decoder).walk(*image).snapshots);
}

}  // namespace

std::uint64_t simulate(std::uint64_t seed, const Options& options, FragmentDecoder& decoder, Tally& tally) {
  const Profile profile = draw_profile(seed);
  decoder.forget_if_large();
  if (options.details) std::printf("seed %ju: %s\n", static_cast<std::uintmax_t>(seed), profile.text().c_str());
  auto machine = std::make_unique<Machine>(seed, profile, make_image(profile), History(profile.create.size));
  Judge judge(options, decoder, seed, tally);
  judge.further(Checks(profile, options, seed, decoder, tally));
  const auto look = [&] { judge.judge_interval(machine->disk.pending(), machine->history); };
  machine->disk.before_barrier(look);
  std::string text;
  Session session(machine->engine, machine->disk, machine->history);
  const std::uint64_t leaks = leaks_in(*machine, decoder);
  for (unsigned i = 0; i < profile.sessions && text.empty(); ++i) {
    if (i != 0 && profile.snapshots) take_snapshot(*machine, judge, decoder);
    if (i != 0 && profile.marked) {
      machine->disk.change_durably(qcow2::header_field::autoclear_features, autoclear_feature);
      judge.while_marked(machine->history.allowed());
    }
    text = complaint(session.run(profile.open, profile.habits, mix(seed, 100 + i)));
    look();
    if (text.empty() && leaks_in(*machine, decoder) != leaks) text = "leaks are left after it was closed";
  }
  if (text.empty()) text = complaint(session.read_everything(profile.open));
  if (!text.empty() && !judge.found()) judge.report(~0ull, text);
  const std::uint64_t trace = machine->engine.trace();
  if (machine->disk.in_flight() != 0 || !text.empty()) machine.release();
  return trace;
}

std::string live_again(const CrashState& state, const Walk& walk, const Profile& profile, std::uint64_t seed,
                       FragmentDecoder& decoder, const SecondLife& life) {
  Habits habits = profile.habits;
  habits.operations = life.only_open ? 0 : 5;
  habits.actors = life.only_open ? 0 : 2;
  habits.opening_whims = habits.opening_churns = habits.opening_duels = habits.opening_spreads =
      habits.opening_presses = 0;
  habits.whole_sectors = true;
  auto machine =
      std::make_unique<Machine>(seed, profile, Image(state.image.begin(), state.image.end()), History::of(walk));
  Options options;
  options.states_per_interval = 4;
  options.details = life.details;
  Tally tally;
  Judge judge(options, decoder, seed, tally);
  const auto look = [&] { judge.judge_interval(machine->disk.pending(), machine->history); };
  if (!life.only_open) machine->disk.before_barrier(look);
  if (walk.autoclear_features != 0) judge.while_marked(machine->history.allowed());
  judge.keep_snapshots(walk.snapshots);
  Session session(machine->engine, machine->disk, machine->history);
  std::string text = complaint(session.run(profile.open, habits, mix(seed, 7)));
  if (!life.only_open || machine->disk.count(SimulatedDisk::Kind::write) != 0) look();
  if (!tally.violations.empty()) {
    const Violation& first = tally.violations.front();
    text = "interval " + std::to_string(first.interval) + " state " + std::to_string(first.state) + " " + first.text;
  }
  if (text.empty()) return text;
  machine.release();
  return "in the second life: " + text;
}

}  // namespace crash
