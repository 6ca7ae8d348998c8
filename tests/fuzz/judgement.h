// What the programs that look at whole images share: how they say what must not be, and what they take for a failure.
#pragma once

#include <optional>
#include <string>

#include "core/error.h"
#include "qcow2/check.h"

namespace fuzz {

/// Ends the program: a finding.
[[noreturn]] void violated(const std::string& what);
void require(bool holds, const char* what);

/// Whether it succeeds. Only a core::Error is a failure; what else is thrown is a finding.
template <class Action>
bool attempt(Action action) {
  try {
    action();
    return true;
  } catch (const core::Error&) {
    return false;
  }
}

/// Nothing where the image cannot be checked.
std::optional<qcow2::CheckResult> checked(const std::string& path);

}  // namespace fuzz
