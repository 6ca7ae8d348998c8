#include "qcow2/offline/host_references.h"

namespace qcow2 {

std::string HostReferences::say_outside(const std::string& who, HostExtent extent) {
  return who + ": at host byte " + in_hex(extent.at.value) + ", outside the file";
}

void HostReferences::add_one(HostCluster cluster) {
  if (counts_.add(cluster)) return;
  findings_.corruption([&] {
    return "host byte " + in_hex(geometry_.start_of(cluster).value) + ": more references than refcounts of " +
           std::to_string(geometry_.refcount_bits()) + " bits can count";
  });
}

}  // namespace qcow2
