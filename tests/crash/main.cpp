// crash_simulation: cuts the power at every interval of many random histories and judges what is left.
#include <malloc.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "tests/crash/faults.h"
#include "tests/crash/simulation.h"
#include "tests/crash/workers.h"

namespace {

struct Arguments {
  std::string seeds = "1:200";
  std::string replay;
  std::uint64_t duration = 0;
  std::uint64_t states_min = 0;
  std::uint64_t seeds_min = 0;
  crash::Work work;
  crash::Options options;
  bool faults = false;
};

using Clock = std::chrono::steady_clock;

// "first:count", or numbers separated by commas.
std::vector<std::uint64_t> numbers(const std::string& text, char separator) {
  std::vector<std::uint64_t> found;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) found.push_back(std::stoull(part));
  return found;
}

void run_seed(std::uint64_t seed, const Arguments& arguments, crash::Tally& tally) {
  static crash::FragmentDecoder decoder;
  if (arguments.faults) {
    crash::fail_everything(seed, arguments.options, decoder, tally);
  } else {
    crash::simulate(seed, arguments.options, decoder, tally);
  }
}

int replay(Arguments arguments) {
  const std::vector<std::uint64_t> which = numbers(arguments.replay, ',');
  if (which.empty()) return 2;
  arguments.options.details = true;
  if (which.size() > 1) arguments.options.only_interval = which[1];
  if (which.size() > 2) arguments.options.only_state = which[2];
  crash::Tally tally;
  run_seed(which[0], arguments, tally);
  for (const crash::Violation& violation : tally.violations) std::printf("violation: %s\n", violation.text.c_str());
  return tally.violations.empty() ? 0 : 1;
}

void print_violations(const std::vector<crash::Violation>& violations) {
  constexpr std::size_t printed_max = 10;
  for (std::size_t i = 0; i < violations.size() && i < printed_max; ++i) {
    const crash::Violation& violation = violations[i];
    std::printf("violation: seed %ju interval %ju state %jd:%s\n", static_cast<std::uintmax_t>(violation.seed),
                static_cast<std::uintmax_t>(violation.interval), static_cast<std::intmax_t>(violation.state),
                violation.text.c_str());
  }
}

int simulate_many(const Arguments& arguments) {
  const auto start = Clock::now();
  const auto one_seed = [&arguments](std::uint64_t seed, crash::Tally& tally) { run_seed(seed, arguments, tally); };
  const crash::Result result = crash::share_out(arguments.work, one_seed);
  const crash::Tally& tally = result.tally;
  print_violations(tally.violations);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::printf(
      "seeds %ju, intervals %ju, states %ju (distinct %ju), reopened %ju, second lives %ju, qemu %ju, "
      "violations %zu, seconds %.1f\n",
      static_cast<std::uintmax_t>(result.seeds), static_cast<std::uintmax_t>(tally.intervals),
      static_cast<std::uintmax_t>(tally.states), static_cast<std::uintmax_t>(tally.distinct),
      static_cast<std::uintmax_t>(tally.reopened), static_cast<std::uintmax_t>(tally.second_lives),
      static_cast<std::uintmax_t>(tally.qemu), tally.violations.size(), seconds);
  if (!tally.violations.empty()) return 1;
  if (tally.distinct < arguments.states_min || result.seeds < arguments.seeds_min) {
    std::printf("fewer than asked for: %ju seeds, %ju distinct states\n",
                static_cast<std::uintmax_t>(arguments.seeds_min), static_cast<std::uintmax_t>(arguments.states_min));
    return 1;
  }
  return 0;
}

// Images come and go by the thousand: the allocator keeps their memory.
void keep_memory() {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

}  // namespace

int main(int argc, char** argv) {
  keep_memory();
  spdlog::set_level(spdlog::level::off);
  Arguments arguments;
  CLI::App app("Cuts the power at every interval of many random histories and judges what is left.");
  app.add_option("--seeds", arguments.seeds, "FIRST:COUNT");
  app.add_option("--duration", arguments.duration, "seconds; goes on with later seeds until they are over");
  app.add_option("--states-per-interval", arguments.options.states_per_interval);
  app.add_option("--thorough-every", arguments.options.thorough_every,
                 "one seed of so many sees every subset of up to twelve pending sectors; 0: none");
  app.add_option("--qemu-every", arguments.options.qemu_every, "one state of so many goes to qemu-img; 0: none");
  app.add_option("--lives-every", arguments.options.lives_every, "one state of so many is used on");
  app.add_option("--opens-every", arguments.options.opens_every, "one state of so many is opened");
  app.add_option("--replay", arguments.replay, "SEED[,INTERVAL[,STATE]], with details");
  app.add_flag("--faults", arguments.faults, "fail each operation of the disk in its turn");
  app.add_option("--jobs", arguments.work.jobs);
  app.add_flag("--until-violation", arguments.work.until_violation, "stop at the first");
  app.add_option("--min-states", arguments.states_min, "fail with fewer distinct states");
  app.add_option("--min-seeds", arguments.seeds_min, "fail with fewer seeds");
  try {
    app.parse(argc, argv);
    if (!arguments.replay.empty()) return replay(arguments);
    const std::vector<std::uint64_t> range = numbers(arguments.seeds, ':');
    if (range.size() != 2 || arguments.work.jobs == 0) throw CLI::ValidationError("--seeds", "FIRST:COUNT");
    arguments.work.first = range[0];
    arguments.work.count = range[1];
    arguments.work.duration = std::chrono::seconds(arguments.duration);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "crash_simulation: %s\n", error.what());
    return 2;
  }
  return simulate_many(arguments);
}
