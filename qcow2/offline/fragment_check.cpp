#include "qcow2/offline/fragment_check.h"

#include <algorithm>
#include <tuple>

namespace qcow2 {
namespace {

constexpr std::uint64_t run_bytes_max = 1 << 20;
constexpr std::uint64_t run_gap_max = 16 << 10;  // reading it costs less than another read
constexpr std::size_t run_fragments_max = 256;

bool names_same_bytes(const Fragment& left, const Fragment& right) { return left.extent == right.extent; }

std::uint64_t end_of(const HostExtent& extent) { return extent.at.value + extent.length; }

}  // namespace

FragmentCheck::FragmentCheck(const ReadOnlyFile& file, const Header& header, unsigned threads)
    : file_(file),
      cluster_size_(header.geometry.cluster_size()),
      waiting_max_(std::size_t{4} * std::max(threads, 1u)),
      codec_(make_codec(header.compression, level_default)) {
  try {
    for (unsigned i = 0; i < std::max(threads, 1u); ++i) threads_.emplace_back([this] { work(); });
  } catch (...) {
    close();  // those that were started wait for work
    throw;
  }
}

FragmentCheck::~FragmentCheck() {
  {
    const std::lock_guard lock(mutex_);
    waiting_.clear();  // nobody waits for the outcome any more
  }
  close();
}

void FragmentCheck::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  work_.notify_all();
  threads_.clear();
}

void FragmentCheck::submit(std::vector<Fragment> fragments) {
  std::sort(fragments.begin(), fragments.end(), [](const Fragment& left, const Fragment& right) {
    return std::tie(left.extent.at, left.extent.length) < std::tie(right.extent.at, right.extent.length);
  });
  Run run;
  for (const Fragment& fragment : fragments) {
    const std::uint64_t end = std::max(end_of(run.extent), end_of(fragment.extent));
    const bool joins = !run.fragments.empty() && run.fragments.size() < run_fragments_max &&
                       fragment.extent.at.value <= end_of(run.extent) + run_gap_max &&
                       end - run.extent.at.value <= run_bytes_max;
    if (!joins) {
      if (!run.fragments.empty()) push(std::move(run));
      run = Run{fragment.extent, {}};
    } else {
      run.extent.length = end - run.extent.at.value;
    }
    run.fragments.push_back(fragment);
  }
  if (!run.fragments.empty()) push(std::move(run));
}

void FragmentCheck::push(Run run) {
  {
    std::unique_lock lock(mutex_);
    space_.wait(lock, [this] { return waiting_.size() < waiting_max_ || failure_; });
    if (failure_) std::rethrow_exception(failure_);
    waiting_.push_back(std::move(run));
  }
  work_.notify_one();
}

bool FragmentCheck::pop(Run& run) {
  {
    std::unique_lock lock(mutex_);
    work_.wait(lock, [this] { return !waiting_.empty() || closed_; });
    if (waiting_.empty()) return false;
    run = std::move(waiting_.front());
    waiting_.pop_front();
  }
  space_.notify_one();
  return true;
}

void FragmentCheck::finish() {
  close();
  if (failure_) std::rethrow_exception(failure_);
  std::sort(kept_.begin(), kept_.end(), [](const Fragment& left, const Fragment& right) {
    return std::tie(left.owner, left.guest) < std::tie(right.owner, right.guest);
  });
}

void FragmentCheck::work() {
  std::vector<std::byte> stored;
  std::vector<std::byte> plain(cluster_size_);
  Run run;
  try {
    while (pop(run)) decode(run, stored, plain);
  } catch (...) {
    {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
    space_.notify_all();
  }
}

void FragmentCheck::decode(const Run& run, std::vector<std::byte>& stored, std::vector<std::byte>& plain) {
  // Behind the end of the file stand zeros: a decoder may need some to see the end of the last stream.
  stored.resize(run.extent.length);
  file_.read_or_zeros(run.extent.at, stored);
  const Fragment* last = nullptr;
  bool decodes = false;
  for (const Fragment& fragment : run.fragments) {
    if (last == nullptr || !names_same_bytes(*last, fragment)) {
      const std::size_t offset = fragment.extent.at - run.extent.at;
      decodes = codec_->decompress(core::Bytes(stored).subspan(offset, fragment.extent.length), plain);
    }
    last = &fragment;
    if (!decodes) report(fragment);
  }
}

void FragmentCheck::report(const Fragment& fragment) {
  const std::lock_guard lock(mutex_);
  ++undecodable_;
  if (kept_.size() < kept_max) kept_.push_back(fragment);
}

}  // namespace qcow2
