#include "tests/fuzz/judgement.h"

#include <cstdio>
#include <cstdlib>

namespace fuzz {

void violated(const std::string& what) {
  std::fprintf(stderr, "violated: %s\n", what.c_str());
  std::abort();
}

void require(bool holds, const char* what) {
  if (!holds) violated(what);
}

std::optional<qcow2::CheckResult> checked(const std::string& path) {
  std::optional<qcow2::CheckResult> found;
  attempt([&] { found = qcow2::check_image(path, {}); });
  return found;
}

}  // namespace fuzz
