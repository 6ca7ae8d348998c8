// How the program that starts a mount learns that it is live, or why it never will be: one line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.h"

namespace fuse {

/// Says "ready", or "failed" and why, to a FIFO and to an inherited descriptor, whichever there are. Both are looked at
/// when it is made: before anything else is done, and before there is a second process.
/// A FIFO that nobody reads yet keeps the line until somebody does, as long as this object lives.
class Announcement {
 public:
  /// Throws core::Error with one line where `pipe` is no FIFO, or `descriptor` not open for writing.
  Announcement(std::string pipe, std::optional<int> descriptor);
  Announcement(const Announcement&) = delete;
  Announcement& operator=(const Announcement&) = delete;

  /// Opens the FIFO: ready() needs no path then.
  void prepare();
  void ready() { tell("ready\n"); }
  void failed(const std::string& reason) { tell("failed " + reason + "\n"); }

 private:
  void tell(const std::string& line);

  std::string pipe_;
  std::optional<int> descriptor_;
  core::UniqueFd read_already_;  ///< somebody has it open
  core::UniqueFd unread_;
};

/// Tells whom the words of a command line that was not understood name, as far as they can be understood.
void announce_refusal(const std::vector<std::string>& words, const std::string& reason);

}  // namespace fuse
