#include "qcow2/offline/findings.h"

#include <cinttypes>
#include <cstdio>

namespace qcow2 {

std::string in_hex(std::uint64_t value) {
  char text[19];
  std::snprintf(text, sizeof(text), "0x%" PRIx64, value);
  return text;
}

std::string in_quotes(const std::string& name) {
  std::string text = "'";
  for (const char c : name) text += c >= ' ' && c <= '~' ? c : '?';
  return text + "'";
}

}  // namespace qcow2
