#include "qcow2/offline/host_references.h"

namespace qcow2 {

std::string HostReferences::say_outside(const std::string& who, HostExtent extent) {
  return who + ": at host byte " + in_hex(extent.at.value) + ", outside the file";
}

void HostReferences::add(HostCluster cluster, std::uint64_t times) {
  const std::uint64_t counted = counts_.add(cluster, times);
  if (counted == times) return;
  const auto say = [&] {
    return "host byte " + in_hex(geometry_.start_of(cluster).value) + ": more references than refcounts of " +
           std::to_string(geometry_.refcount_bits()) + " bits can count";
  };
  findings_.corruption(say, times - counted);
}

}  // namespace qcow2
