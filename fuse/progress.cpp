#include "fuse/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace fuse {
namespace {

constexpr std::chrono::milliseconds silent_for(1000);
constexpr std::chrono::milliseconds redraw_every(200);
constexpr std::size_t bar_columns = 40;
constexpr const char* clear_line = "\r\033[K";

}  // namespace

Progress::Progress(std::uint64_t total)
    : total_(total),
      to_terminal_(::isatty(STDERR_FILENO) == 1),
      started_(Clock::now()),
      next_drawing_(started_ + silent_for) {}

Progress::~Progress() {
  if (drawn_) std::fputs(clear_line, stderr);
}

void Progress::reached(std::uint64_t position) {
  if (!to_terminal_) return;
  position_ = std::max(position_, position);
  const Clock::time_point now = Clock::now();
  if (now < next_drawing_) return;
  next_drawing_ = now + redraw_every;
  draw(now);
}

void Progress::draw(Clock::time_point now) {
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const double mebibytes = static_cast<double>(position_) / (1 << 20);
  std::string line = clear_line;
  if (total_ != 0) {
    const double part = std::min(1.0, static_cast<double>(position_) / static_cast<double>(total_));
    const auto filled = static_cast<std::size_t>(part * bar_columns);
    char percent[16];
    std::snprintf(percent, sizeof(percent), "%3d %% ", static_cast<int>(part * 100));
    line += percent + ("[" + std::string(filled, '#')) + std::string(bar_columns - filled, '.') + "] ";
  }
  char figures[64];
  std::snprintf(figures, sizeof(figures), "%.0f MiB, %.0f MiB/s", mebibytes, mebibytes / seconds);
  std::fputs((line + figures).c_str(), stderr);
  drawn_ = true;
}

}  // namespace fuse
