// Decodes compressed clusters on all processors, to learn which do not decode.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "qcow2/codec/codec.h"
#include "qcow2/format/header.h"
#include "qcow2/offline/read_only_file.h"
#include "qcow2/offline/table_walk.h"

namespace qcow2 {

/// Ownership  Borrows the file. Memory: some MiB for each thread.
/// Errors     submit() and finish() throw what reading the file threw in one of the threads.
/// Threads    submit() and finish() are called by one.
class FragmentCheck {
 public:
  static constexpr std::size_t kept_max = 1000;

  FragmentCheck(const ReadOnlyFile& file, const Header& header, unsigned threads);
  ~FragmentCheck();
  FragmentCheck(const FragmentCheck&) = delete;
  FragmentCheck& operator=(const FragmentCheck&) = delete;

  /// Takes them; waits while the threads have enough to do.
  void submit(std::vector<Fragment> fragments);
  /// Waits until all are decoded.
  void finish();

  // Once finish() has returned:
  std::uint64_t undecodable() const { return undecodable_; }
  /// The first of these, in the order of owner and guest.
  const std::vector<Fragment>& undecodable_fragments() const { return kept_; }

 private:
  /// Fragments near each other, which one read gets.
  struct Run {
    HostExtent extent;
    std::vector<Fragment> fragments;
  };

  void push(Run run);
  bool pop(Run& run);
  void work();
  void decode(const Run& run, std::vector<std::byte>& stored, std::vector<std::byte>& plain);
  void report(const Fragment& fragment);
  void close();

  const ReadOnlyFile& file_;
  const std::size_t cluster_size_;
  const std::size_t waiting_max_;
  const std::unique_ptr<Codec> codec_;

  std::mutex mutex_;
  std::condition_variable work_;   // a run waits, or none will come
  std::condition_variable space_;  // fewer wait
  std::deque<Run> waiting_;
  bool closed_ = false;
  std::exception_ptr failure_;
  std::uint64_t undecodable_ = 0;
  std::vector<Fragment> kept_;
  std::vector<std::jthread> threads_;  // last: they use all of the above
};

}  // namespace qcow2
