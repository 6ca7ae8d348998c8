// Whether an image has reserved clusters that its file has no bytes for, told from its refcounts.
#pragma once

#include "qcow2/format/header.h"
#include "qcow2/offline/stored_refcounts.h"

namespace qcow2 {

/// By QEMU's measure: markedly more clusters are counted than the file takes on its file system. Then a standard
/// cluster may lie in a hole of the file. Throws core::Error.
bool reserves_more_than_it_holds(const ReadOnlyFile& file, const Header& header, StoredRefcounts& stored);

}  // namespace qcow2
