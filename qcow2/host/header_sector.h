// The one sector that switches everything: disk size, L1 table, refcount table, feature bits.
#pragma once

#include <functional>

#include "core/async.h"
#include "core/block_file.h"
#include "qcow2/format/header.h"

namespace qcow2 {

/// Keeps the sector's bytes, those it does not understand included. update() changes some of them and writes it whole;
/// a change is never written before its own update(), so nobody's half-made switch leaks out with another's.
class HeaderSector {
 public:
  HeaderSector(core::BlockFile& file, core::Buffer sector) : file_(file), sector_(std::move(sector)) {}

  core::Awaitable<void> update(std::function<void(core::MutableBytes)> change) {
    const core::AsyncMutex::Guard alone = co_await mutex_.lock();
    change(sector_.span());
    co_await file_.write_at(HostOffset{0}, sector_.span());
  }

 private:
  core::BlockFile& file_;
  core::Buffer sector_;
  core::AsyncMutex mutex_;
};

}  // namespace qcow2
