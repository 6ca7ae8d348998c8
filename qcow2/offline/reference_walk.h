// Everything in an image that refers to host clusters.
#pragma once

#include "qcow2/offline/table_walk.h"

namespace qcow2 {

/// Counts the references of all that is kept when refcounts are built anew: header, tables, clusters, snapshots,
/// encryption header, bitmaps.
void count_content(const ReadOnlyFile& file, const ImageLayout& layout, const SnapshotTable& snapshots,
                   TableWalk& tables, HostReferences& references, Findings& findings);

/// Counts those of the refcount table and its blocks, which must be the only ones to these clusters: comes last.
void count_refcount_structure(const ImageLayout& layout, const StoredRefcounts& stored, HostReferences& references,
                              Findings& findings);

/// Holds the counts of the image against those of its content. Returns the end of the last cluster in use.
HostOffset compare_refcounts(const ImageLayout& layout, StoredRefcounts& stored, const ReferenceCounts& counts,
                             Findings& findings);

}  // namespace qcow2
