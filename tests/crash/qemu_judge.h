// The real judge, for a sample.
#pragma once

#include <string>

#include "tests/crash/image_walker.h"

namespace crash {

/// qemu-img check finds nothing worse than leaks, and qemu-img convert reads what the walker read. Returns what is
/// wrong, or nothing.
std::string ask_qemu(core::Bytes image, const Walk& walk, FragmentDecoder& decoder);

/// Exit status of `qemu-img check`.
int qemu_check(const std::string& path);

}  // namespace crash
