# The engine with one thing left out, each time another: the simulation has to notice.
#
#   add_mutant(<name> <file> <what it breaks> <original text> <mutated text> [<original> <mutated>]...)
#
# The mutated copy of <file> is linked before the libraries, whose own object then is not pulled in. The original text
# must occur exactly once: a mutant that no longer fits its file stops the configuration.

# Where one seed of thousands meets a mutant, the search begins near one that does: it still ends only with a catch, but
# need not be long. A change of the histories makes it longer again.
set(MUTANT_USUAL "--lives-every 16 --opens-every 4")
set(MUTANT_RARE "--states-per-interval 1 --thorough-every 0 --lives-every 0 --opens-every 0")
set(MUTANT_ARGUMENTS "--seeds 1:1500 ${MUTANT_USUAL}")
set(MUTANT_LIST ${CMAKE_CURRENT_BINARY_DIR}/mutants.txt)
file(WRITE ${MUTANT_LIST} "")
add_custom_target(crash_mutants)

function(add_mutant NAME FILE WHAT)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${FILE})
  file(READ ${CMAKE_SOURCE_DIR}/${FILE} TEXT)
  math(EXPR LAST "${ARGC} - 1")
  foreach(I RANGE 3 ${LAST} 2)
    math(EXPR J "${I} + 1")
    set(ORIGINAL "${ARGV${I}}")
    set(MUTATED "${ARGV${J}}")
    string(FIND "${TEXT}" "${ORIGINAL}" FIRST)
    string(FIND "${TEXT}" "${ORIGINAL}" OTHER REVERSE)
    if(FIRST EQUAL -1 OR NOT FIRST EQUAL OTHER)
      message(FATAL_ERROR "The mutant ${NAME} is stale: ${FILE} does not hold this exactly once:\n${ORIGINAL}")
    endif()
    string(REPLACE "${ORIGINAL}" "${MUTATED}" TEXT "${TEXT}")
  endforeach()
  set(SOURCE ${CMAKE_CURRENT_BINARY_DIR}/mutants/${NAME}.cpp)
  file(GENERATE OUTPUT ${SOURCE} CONTENT "${TEXT}")
  add_executable(crash_mutant_${NAME} EXCLUDE_FROM_ALL ${SOURCE})
  target_link_libraries(crash_mutant_${NAME} PRIVATE crash_objects crash_parts ZLIB::ZLIB PkgConfig::ZSTD)
  target_precompile_headers(crash_mutant_${NAME} REUSE_FROM qcowfs_qcow2)
  add_dependencies(crash_mutants crash_mutant_${NAME})
  file(APPEND ${MUTANT_LIST} "${NAME}\t${WHAT}\t${CMAKE_BINARY_DIR}/crash_mutant_${NAME}\t${MUTANT_ARGUMENTS}\n")
endfunction()

# ---- the batch

add_mutant(names_without_barrier qcow2/flow/commit.cpp "no barrier between what is named and its names (I1)"
[[    staged_ = true;
    co_return;
]] [[    staged_ = !alone;
    if (!alone) co_return;
]])

add_mutant(early_answer qcow2/flow/commit.cpp "fsync is answered before the barrier behind the names"
[[  co_await writes.join();
]] [[  co_await writes.join();
  if (settles_) durable_batch_ = open_batch_ - (staged_ ? 2 : 1);
  progress_.wake_all();
]])

set(GIVE_UP [[  co_await writes.join();
  Lost given_up;
  if (settles_) given_up = rooms_.map.settle();
  ++reclaiming_;
  co_await reclaim(std::move(given_up));
]])  # in place of the join, and before the barrier

add_mutant(early_reuse qcow2/flow/commit.cpp "space is given up before its unlink is durable (I3)"
[[  co_await writes.join();
]] "${GIVE_UP}")

add_mutant(early_drop qcow2/flow/commit.cpp "refcounts fall before the unlink is durable (I2)"
[[  co_await writes.join();
]] "${GIVE_UP}  co_await rooms_.refcounts.write_dirty();
")

add_mutant(early_punch qcow2/flow/commit.cpp "space is punched before its unlink is durable (I3)"
[[  co_await writes.join();
]] "${GIVE_UP}"
[[    for (const HostClusters& clusters : lost.clusters) co_await rooms_.refcounts.drop(clusters, freed);
]] [[    for (const HostClusters& clusters : lost.clusters) {
      co_await rooms_.refcounts.drop(clusters, freed);
      const std::uint64_t left = co_await rooms_.refcounts.count(clusters.first);
      if (left == 0) co_await rooms_.file.punch(geometry_.start_of(clusters.first), geometry_.cluster_size());
    }
]])

add_mutant(no_quarantine qcow2/flow/commit.cpp "space that a batch unlinks is free for that batch (I3)"
[[  co_await rooms_.placer.seal();
]] [[  co_await rooms_.placer.seal();
  Lost at_once = rooms_.map.open_changes().lost;
  ++reclaiming_;
  co_await reclaim(std::move(at_once));
]]
"  if (lost.empty()) return;\n" "  lost = Lost();\n  if (lost.empty()) return;\n")

add_mutant(short_quarantine qcow2/flow/commit.cpp
  "space that a batch unlinks is free for the batch beside its names (I3)"
[[core::Awaitable<void> Commit::step() {
]] [[static std::map<const void*, Lost> unlinked;

core::Awaitable<void> Commit::step() {
]]
[[    writes.spawn(rooms_.map.write_names());
]] [[    writes.spawn(rooms_.map.write_names());
    Lost too_early = std::exchange(unlinked[this], {});
    ++reclaiming_;
    co_await reclaim(std::move(too_early));
]]
[[  rooms_.placer.take_overwritten();
]] [[  rooms_.placer.take_overwritten();
  unlinked[this] = rooms_.map.open_changes().lost;
]]
"  if (lost.empty()) return;\n"
[[  if (!unlinked[this].empty() && !staged_) unlinked[this] = {};
  else lost = {};
  if (lost.empty()) return;
]])

add_mutant(data_beside_names qcow2/flow/commit.cpp "the data reach the file beside their names (I1)"
[[  co_await rooms_.cache.flush();
]] ""
[[    writes.spawn(rooms_.map.write_names());
]] [[    writes.spawn(rooms_.map.write_names());
    writes.spawn(rooms_.cache.flush());
]])

add_mutant(cache_not_always_flushed qcow2/flow/commit.cpp
  "a batch of discards leaves data on their way to freed space"
[[  co_await rooms_.cache.flush();
  if (names_new_space || !alone) {
]] [[  if (names_new_space || !alone) {
    co_await rooms_.cache.flush();
]])

add_mutant(counts_not_written qcow2/flow/commit.cpp "the refcounts of what is named stay in memory (I1)"
[[    co_await rooms_.refcounts.write_dirty();  // and the counts that protect both.
]] "")

add_mutant(readers_not_awaited qcow2/flow/commit.cpp "space is reused under a reader (I3)"
[[    co_await rooms_.readers.drain();
]] "")

add_mutant(overwrite_not_barriered qcow2/flow/placer.cpp "an overwrite in place is called durable without a barrier"
"cluster.bytes);\n  overwritten_ = true;\n" "cluster.bytes);\n")

add_mutant(tables_beside_names qcow2/map/guest_map.cpp "new L2 and L1 tables are written beside what names them (I4)"
[[  co_await write_all(engine_, file_, std::move(writes));
}

core::Buffer GuestMap::l1_bytes]] [[  held_tables[this] = std::move(writes);
  co_return;
}

core::Buffer GuestMap::l1_bytes]]
[[core::Awaitable<void> GuestMap::write_names() {
]] [[core::Awaitable<void> GuestMap::write_names() {
  std::vector<PendingWrite> tables = std::move(held_tables[this]);
  held_tables.erase(this);
  co_await write_all(engine_, file_, std::move(tables));
]]
[[core::Awaitable<void> GuestMap::write_new_tables() {
]] [[static std::map<const void*, std::vector<PendingWrite>> held_tables;

core::Awaitable<void> GuestMap::write_new_tables() {
]])

set(MUTANT_ARGUMENTS "--seeds 110:1500 ${MUTANT_USUAL}")
add_mutant(later_tables_named qcow2/map/guest_map.cpp "a batch's L1 sectors name tables of the batch beside it (I4)"
"per_sector, {&naming_})" "per_sector, {&staged_, &naming_})"
[[  if (!naming_.moved_l1) collect_l1_sectors(writes);
]] [[  co_await write_all(engine_, file_, std::exchange(writes, {}));
  if (!naming_.moved_l1) collect_l1_sectors(writes);
]])

set(MUTANT_ARGUMENTS "--seeds 1:1500 ${MUTANT_USUAL}")
add_mutant(later_entries_named qcow2/map/guest_map.cpp "a batch's L2 slices name data of the batch beside it (I1)"
[[    store_changes(*changes, bytes.span(), geometry_);
    writes.emplace_back(at, std::move(bytes));
]] [[    store_changes(*changes, bytes.span(), geometry_);
    if (const auto later = staged_.slices.find(slice); later != staged_.slices.end()) {
      store_changes(*later->second, bytes.span(), geometry_);
    }
    writes.emplace_back(at, std::move(bytes));
]])

# ---- refcounts

add_mutant(block_beside_table qcow2/host/refcounts.cpp "a refcount block is written beside the table that names it (I4)"
[[    co_await file_.barrier();  // ---- the blocks are durable; below this line a table may name them
]] "")

add_mutant(table_beside_header qcow2/host/refcounts.cpp "a refcount table is written beside the header that names it"
[[    co_await file_.barrier();  // ---- blocks and table are durable; below this line the header may name them
]] "")

add_mutant(table_freed_early qcow2/host/refcounts.cpp "an outgrown refcount table is free before the header is durable"
[[    superseded_.push_back({geometry_.cluster_of(table_at_), old_clusters});
    table_at_ = new_table;
]] [[    const HostClusters outgrown{geometry_.cluster_of(table_at_), old_clusters};
    table_at_ = new_table;
    covered_blocks_ = first_block + growth.blocks;
    const std::function<void(HostCluster)> nobody = [](HostCluster) {};
    co_await drop(outgrown, nobody);
]])

# ---- space

add_mutant(blocks_rewritten qcow2/host/fragment_allocator.cpp "after a commit, data go on in a durable block (I6)"
[[  const HostOffset fresh{core::align_up(cursor_.value, fresh_block_)};
]] "  const HostOffset fresh = cursor_;\n")

add_mutant(open_cluster_not_kept qcow2/host/cluster_allocator.cpp
  "the open cluster is anybody's once its data died (I5)"
[[  const HostClusters taken{found, count};
  reserved_.push_back(taken);
]] "  const HostClusters taken{found, count};\n"
[[  CHECK(found != reserved_.end() && found->count == clusters.count);
  reserved_.erase(found);
]] "  if (found != reserved_.end()) reserved_.erase(found);\n")

add_mutant(shared_block_is_dead qcow2/host/block_use.cpp "a block that a living fragment ends in is written again (I6)"
"fragment.length - 1) / block_ + 1;" "fragment.length - 1) / block_;")

add_mutant(shrunk_too_early qcow2/disk.cpp "a smaller disk is announced before its old content is gone"
[[    co_await commit_.flush();
    map_.set_disk_size]] "    map_.set_disk_size")

add_mutant(tail_announced_early qcow2/disk.cpp "a larger disk is announced beside the end of what lay behind it"
"  if (!tail_is_clean_ || old_end < exposed_end) co_await commit_.flush();\n" "")

add_mutant(growth_beside_growth qcow2/disk.cpp "two writes beyond the end clean the tail at once"
[[  const core::AsyncMutex::Guard alone = co_await growing_.lock();
]] "")

add_mutant(autoclear_beside_changes qcow2/image.cpp "autoclear features are cleared beside the first changes"
[[  co_await file.barrier();  // ---- below this line the content may change: nobody takes their word for it any more
]] "")

# ---- what shows in the history itself, but only in a rare one: many seeds, hardly any states

set(MUTANT_ARGUMENTS "--seeds 200:12000 ${MUTANT_RARE}")
add_mutant(counts_forgotten_too_early qcow2/host/slice_cache.cpp
  "refcounts on their way to the file are read back from it"
"    ++slice.pins;\n" "" "--index_.at(at)->pins;" "(void)at;")

set(MUTANT_ARGUMENTS "--seeds 5480:12000 ${MUTANT_RARE}")
add_mutant(overwrite_not_awaited qcow2/flow/encoder.cpp "space is reused under an overwrite in place (I3)"
[[  const Readers::Ticket ticket = rooms_.readers.enter();  // should it be discarded meanwhile, its space waits for us
]] "")

set(MUTANT_ARGUMENTS "--seeds 3770:12000 ${MUTANT_RARE}")
add_mutant(dead_before_readers_left qcow2/flow/commit.cpp "dead blocks are written under a reader (I3)"
[[    co_await rooms_.readers.drain();
]] ""
[[    const auto freed = [this](HostCluster cluster) {
]] [[    co_await rooms_.readers.drain();
    const auto freed = [this](HostCluster cluster) {
]])

set(MUTANT_ARGUMENTS "--seeds 1:12000 ${MUTANT_RARE}")
add_mutant(dead_fragment_remembered qcow2/flow/commit.cpp "what a dead fragment held is read where another one is now"
[[      rooms_.reader.forget(fragment);
]] "")

set(MUTANT_ARGUMENTS "--seeds 35560:24000 ${MUTANT_RARE}")
add_mutant(read_beside_overwrite qcow2/flow/encoder.cpp "what a reader puts together is written over meanwhile"
" || rooms_.readers.held(standard->at)" "")

# ---- after an error

set(MUTANT_ARGUMENTS "--faults --seeds 1:200 --states-per-interval 8")

add_mutant(barrier_retried core/patient_file.cpp "a failed barrier is tried again"
[[Awaitable<void> PatientFile::barrier() { return change(file_.barrier()); }
]] [[Awaitable<void> PatientFile::barrier() {
  bool failed = false;
  try {
    co_await file_.barrier();
  } catch (const std::exception&) {
    failed = true;
  }
  if (failed) co_await file_.barrier();
}
]])

add_mutant(shortage_ignored core/patient_file.cpp "a write that found no space is taken for written"
[[    if (!patient_ || !means_no_space(error.code())) throw;
]] [[    if (!patient_ || !means_no_space(error.code())) throw;
    written = true;
]])

add_mutant(shortage_sticks core/patient_file.cpp "want of space is never over"
[[    health_.set_short_of_space(false);
]] "")

add_mutant(writes_after_failure core/patient_file.cpp "after a failed write others are still begun"
[[  health_.check_failed();
  try {
]] "  try {\n"
[[  health_.check_failed();
  bool written = false;
]] "  bool written = false;\n")

set(MUTANT_ARGUMENTS "--faults --seeds 18:200 --states-per-interval 8")
add_mutant(waits_for_unreadable qcow2/flow/assembler.cpp "writes wait for room behind what cannot be completed"
"outstanding_.size() > gathering_by_age_.size()" "true")

set(MUTANT_ARGUMENTS "--faults --seeds 1:200 --states-per-interval 8")
add_mutant(space_not_set_aside qcow2/flow/admission.cpp "clusters become dirty that the host may have no space for"
"  co_await ensure_space(disk_size);\n" "")

add_mutant(l1_table_not_set_aside qcow2/disk.cpp "the disk grows by an L1 table that the host may have no space for"
"  if (larger_l1_table) co_await admission_.ensure_space(size);\n" "  static_cast<void>(larger_l1_table);\n")

add_mutant(unreadable_dropped qcow2/flow/encoder.cpp "what cannot be completed is forgotten"
[[  rooms_.assembler.put_back(sealed, error);
]] "  rooms_.assembler.placed(sealed);\n")

add_mutant(close_waits_for_space qcow2/disk_lifetime.cpp "a close waits for moves that wait for space"
"    if (tried) file_.give_up();\n" "")

# ---- snapshots

set(MUTANT_ARGUMENTS "--seeds 1:1500 ${MUTANT_USUAL}")

add_mutant(shared_table_written qcow2/map/guest_map.cpp "an L2 table that a snapshot shares is written in place"
"return (l1_entry & entry_copied) != 0;" "return l1_entry != 0;")

add_mutant(copied_table_named_early qcow2/map/guest_map.cpp "a copy of an L2 table is named before it is durable"
"if (needs_table || (entry" "if ((entry")

add_mutant(shared_table_not_given_up qcow2/map/guest_map.cpp "the reference to a copied L2 table is kept"
"    if (shared.value != 0) staged_.lost.clusters.push_back({geometry_.cluster_of(shared), 1});\n" "")

# ---- what moves

add_mutant(moved_over_newer qcow2/flow/mover.cpp "a move wins over what the guest has written meanwhile"
"  if (now == resident.entry) {" "  if (now != entry) {")

add_mutant(moved_block_named_early qcow2/host/refcounts.cpp
  "a refcount block is named at its new place before it is there (I4)"
[[  co_await file_.write_at(to, content.span());
  co_await file_.barrier();  // ---- the copy is durable; below this line the table may name it
  table_[block] = to.value;
]] [[  co_await file_.write_at(to, content.span());
  table_[block] = to.value;
]])

# Seen where tables move while the batch before names something in them, which hardly any history does.
set(MUTANT_ARGUMENTS "--seeds 380:12000 ${MUTANT_RARE}")
add_mutant(moved_table_forgets qcow2/map/guest_map.cpp "a table is copied without what the batch before changes in it"
"      if (is_sole_table(latest)) store_layer(naming_, index, content.span());\n" "")

# ---- what is read ahead of the image

set(MUTANT_ARGUMENTS "--seeds 190:1500 ${MUTANT_USUAL}")
add_mutant(read_ahead_beside_write core/read_ahead.cpp "what was read ahead beside a write is served when that is done"
"  ~Change() { file_.forget(at_, end_); }" "  ~Change() = default;"
"at_(at), end_(end) {}" "at_(at), end_(end) { file_.forget(at_, end_); }")
