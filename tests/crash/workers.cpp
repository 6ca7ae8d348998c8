// What a worker tells, line by line: "B seed" when it begins one, "T ..." when it has ended it, "V ..." for a
// violation.
#include "tests/crash/workers.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>

#include "core/unique_fd.h"

namespace crash {
namespace {

using Clock = std::chrono::steady_clock;

struct Worker {
  pid_t process = 0;
  core::UniqueFd pipe;
  std::string unread;
  std::uint64_t seed = 0;
  bool busy = false;
  bool open = true;
};

void tell(int fd, const std::string& line) {
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = ::write(fd, line.data() + done, line.size() - done);
    if (written <= 0) std::_Exit(3);
    done += static_cast<std::size_t>(written);
  }
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

void run_seed(std::uint64_t seed, const OneSeed& one_seed, int fd) {
  tell(fd, "B " + std::to_string(seed) + "\n");
  Tally tally;
  one_seed(seed, tally);
  std::ostringstream out;
  for (const Violation& violation : tally.violations) {
    out << "V " << violation.seed << ' ' << violation.interval << ' ' << violation.state << ' '
        << one_line(violation.text) << '\n';
  }
  out << "T " << tally.intervals << ' ' << tally.states << ' ' << tally.distinct << ' ' << tally.reopened << ' '
      << tally.second_lives << ' ' << tally.qemu << '\n';
  tell(fd, out.str());
}

[[noreturn]] void work_on(const Work& work, unsigned number, const OneSeed& one_seed, int fd) {
  const auto end = Clock::now() + work.duration;
  for (std::uint64_t i = number;; i += work.jobs) {
    const bool timed = work.duration.count() != 0;
    if (timed ? Clock::now() >= end : i >= work.count) break;
    run_seed(work.first + i, one_seed, fd);
  }
  std::_Exit(0);
}

Worker start(const Work& work, unsigned number, const OneSeed& one_seed) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) throw std::runtime_error("no pipe");
  std::fflush(stdout);
  Worker worker;
  worker.process = ::fork();
  if (worker.process == 0) {
    ::close(ends[0]);
    work_on(work, number, one_seed, ends[1]);
  }
  ::close(ends[1]);
  worker.pipe.reset(ends[0]);
  return worker;
}

void hear(Worker& worker, const std::string& line, Result& result) {
  std::istringstream in(line);
  char kind = 0;
  in >> kind;
  if (kind == 'B') {
    in >> worker.seed;
    worker.busy = true;
  } else if (kind == 'V') {
    Violation violation;
    in >> violation.seed >> violation.interval >> violation.state;
    std::getline(in, violation.text);
    result.tally.violations.push_back(violation);
  } else if (kind == 'T') {
    Tally tally;
    in >> tally.intervals >> tally.states >> tally.distinct >> tally.reopened >> tally.second_lives >> tally.qemu;
    result.tally.intervals += tally.intervals;
    result.tally.states += tally.states;
    result.tally.distinct += tally.distinct;
    result.tally.reopened += tally.reopened;
    result.tally.second_lives += tally.second_lives;
    result.tally.qemu += tally.qemu;
    ++result.seeds;
    worker.busy = false;
  }
}

void end_of(Worker& worker, Result& result) {
  worker.open = false;
  int status = 0;
  ::waitpid(worker.process, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                              : "status " + std::to_string(WEXITSTATUS(status));
  result.tally.violations.push_back({worker.seed, 0, 0, " the program died with " + how});
}

void listen(Worker& worker, Result& result) {
  std::array<char, 4096> buffer{};
  const ssize_t got = ::read(worker.pipe.get(), buffer.data(), buffer.size());
  if (got <= 0) return end_of(worker, result);
  worker.unread.append(buffer.data(), static_cast<std::size_t>(got));
  for (std::size_t end = worker.unread.find('\n'); end != std::string::npos; end = worker.unread.find('\n')) {
    hear(worker, worker.unread.substr(0, end), result);
    worker.unread.erase(0, end + 1);
  }
}

void stop(std::vector<Worker>& workers) {
  for (Worker& worker : workers) {
    if (!worker.open) continue;
    ::kill(worker.process, SIGKILL);
    ::waitpid(worker.process, nullptr, 0);
    worker.open = false;
  }
}

}  // namespace

Result share_out(const Work& work, const OneSeed& one_seed) {
  Result result;
  std::vector<Worker> workers;
  for (unsigned i = 0; i < work.jobs; ++i) workers.push_back(start(work, i, one_seed));
  for (;;) {
    std::vector<pollfd> waits;
    std::vector<Worker*> waited;
    for (Worker& worker : workers) {
      if (!worker.open) continue;
      waits.push_back({worker.pipe.get(), POLLIN, 0});
      waited.push_back(&worker);
    }
    if (waits.empty()) return result;
    ::poll(waits.data(), waits.size(), -1);
    for (std::size_t i = 0; i < waits.size(); ++i) {
      if (waits[i].revents != 0) listen(*waited[i], result);
    }
    if (work.until_violation && !result.tally.violations.empty()) {
      stop(workers);
      return result;
    }
  }
}

}  // namespace crash
