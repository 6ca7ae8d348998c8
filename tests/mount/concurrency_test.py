#!/usr/bin/env -S python3 -B
"""Reads, writes, discards, fsyncs and truncates of the same few clusters by many threads of several processes: every
sector that is read holds a value that it may have held at that time, and so does every sector of the image at the end.

What may be read is for history.py to judge. Reads go past the kernel's page cache: they must reach the daemon, and a
page may be copied out while another thread copies into it, which would mix values that the daemon never mixed.
"""

import ctypes
import multiprocessing
import os
import random
import threading
import time
import unittest

import aio
import harness
import history
from harness import KiB, run, scaled
from history import NEVER, SECTOR, TORN, ZERO

SEED = int(os.environ.get("QCOWFS_SEED") or random.SystemRandom().randrange(1 << 32))
PROCESSES = 3
THREADS = 3  # of each process
OPERATIONS = scaled(1500, 250)  # of each thread
BATCH = 6  # asynchronous transfers of one thread under way together


class Worker:
    """One process's share of the work on `path`, whose first `sectors` sectors are fought for."""

    def __init__(self, path, sectors, seed, number, truncates):
        self.recorder = history.Recorder((number + 1) << 32)
        self.sectors = sectors
        self.truncates = truncates
        self.failures = []
        self.fd = os.open(path, os.O_RDWR)
        self.direct_fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        # The kernel learns of a size too late where asynchronous writes and truncates race.
        bodies = [self.work_in_turn] * THREADS if truncates else [self.work_in_turn] * (THREADS - 1) + [self.batches]
        self.threads = [threading.Thread(target=self.live, args=[body, random.Random(f"{seed} {number} {index}")])
                        for index, body in enumerate(bodies)]

    def run(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        os.close(self.fd)
        os.close(self.direct_fd)
        return self.recorder.writes, self.recorder.reads, self.recorder.syncs, self.failures

    def live(self, body, source):
        try:
            body(source)
        except Exception as error:
            self.failures.append(repr(error))

    def place(self, source):
        count = min(int(2 ** source.uniform(0, 7)), self.sectors // 2)
        first = source.randrange(self.sectors - count + 1)
        if source.random() < 0.3:  # whole pages
            first, count = first // 8 * 8, max(8, count // 8 * 8)
        return first, count

    def work_in_turn(self, source):
        for _ in range(OPERATIONS):
            kind = source.random()
            if kind < 0.42:
                first, count = self.place(source)
                self.recorder.read(first, count,
                                   lambda: os.pread(self.direct_fd, count * SECTOR, first * SECTOR))
            elif kind < 0.85:
                self.write(source)
            elif kind < 0.94:
                self.clear(source)
            elif kind < 0.97:
                self.recorder.sync(lambda: os.fsync(self.fd))
            elif self.truncates:
                self.cut_and_grow(source)
            else:
                os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def write(self, source):
        first, count = self.place(source)
        number = self.recorder.new_number()
        data = history.content(number, first, count)
        fd = self.direct_fd if self.truncates or source.random() < 0.5 else self.fd

        def put():
            written = os.pwrite(fd, data, first * SECTOR)
            if written != len(data):
                raise AssertionError(f"{written} of {len(data)} bytes were taken")

        self.recorder.write(number, first, count, put)

    def clear(self, source):
        first, count = self.place(source)
        mode = harness.FALLOC_FL_PUNCH_HOLE if source.random() < 0.6 else harness.FALLOC_FL_ZERO_RANGE

        def punch():
            done = harness.libc.fallocate(self.fd, mode | harness.FALLOC_FL_KEEP_SIZE,
                                          ctypes.c_int64(first * SECTOR), ctypes.c_int64(count * SECTOR))
            if done != 0:
                raise OSError(ctypes.get_errno(), "fallocate")

        self.recorder.write(ZERO, first, count, punch)

    def cut_and_grow(self, source):
        """Cutting zeroes what it cuts off; growing again changes nothing more."""
        size = self.sectors * SECTOR
        first = source.randrange(self.sectors)
        self.recorder.write(ZERO, first, self.sectors - first, lambda: os.ftruncate(self.fd, first * SECTOR))
        if source.random() < 0.7:
            os.ftruncate(self.fd, size)

    def batches(self, source):
        queue = aio.Queue(BATCH)
        try:
            for _ in range(OPERATIONS // BATCH * 2):
                self.batch(queue, source)
        finally:
            queue.close()

    def batch(self, queue, source):
        """Reads and writes that overlap each other too."""
        requests = []
        records = []
        for _ in range(source.randrange(1, BATCH + 1)):
            first, count = self.place(source)
            if source.random() < 0.5:
                buffer = ctypes.create_string_buffer(count * SECTOR)
                requests.append((self.direct_fd, aio.PREAD, first * SECTOR, buffer, count * SECTOR))
                records.append((None, first, count))
            else:
                number = self.recorder.new_number()
                buffer = ctypes.create_string_buffer(history.content(number, first, count), count * SECTOR)
                requests.append((self.direct_fd, aio.PWRITE, first * SECTOR, buffer, count * SECTOR))
                records.append((number, first, count))
        began = time.monotonic_ns()
        records = [(None, first, count) if number is None else (self.recorder.began(number, first, count), first, count)
                   for number, first, count in records]

        def completed(index, result, end):
            record, first, count = records[index]
            if result != count * SECTOR:
                raise AssertionError(f"an asynchronous transfer of {count} sectors at {first} answers {result}")
            if record is None:
                self.recorder.have_read(began, end, first, count, requests[index][3].raw)
            else:
                record[1] = end

        queue.transfer(requests, completed)


def work(arguments):
    return Worker(*arguments).run()


class Concurrency(harness.MountCase):
    def fight(self, cluster_size, clusters, compression, *options, truncates=False):
        """Everybody works on the first `clusters` clusters; then the judge goes through what they saw."""
        obstacle = aio.obstacle()
        if obstacle:
            self.lacks(obstacle)
        print(f"QCOWFS_SEED={SEED}", flush=True)
        size = clusters * cluster_size
        sectors = size // SECTOR
        image = self.create(size, "--cluster-size", cluster_size, "--compression", compression)
        daemon = self.mount(image, *options)
        shares = [(daemon.disk, sectors, SEED, number, truncates) for number in range(PROCESSES)]
        with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
            results = pool.map_async(work, shares, chunksize=1).get(200 * harness.PATIENCE)
        self.assertEqual([failure for result in results for failure in result[3]], [])
        all_writes = [write for result in results for write in result[0]]
        all_reads = [read for result in results for read in result[1]]
        if truncates:
            os.truncate(daemon.disk, size)
        daemon.unmount()
        self.check(image)
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, self.path("raw"))
        with open(self.path("raw"), "rb") as file:
            left = history.numbers_in(file.read(), 0)
        self.assertEqual(len(left), sectors)

        writes = history.writes_by_sector(all_writes, [ZERO] * sectors)
        reads = history.reads_by_sector(all_reads + [(NEVER - 1, NEVER, 0, left)], sectors)
        found = history.misfits(writes, reads)
        self.assertEqual(len(found), 0, "\n".join([f"{len(found)} reads are wrong, seed {SEED}"] + found[:5]))
        self.must_have_been_hard(writes, reads)
        self.must_be_refutable(writes, reads)

    def must_have_been_hard(self, writes, reads):
        """Many reads had a choice of values: else nothing was tried."""
        total = contended = 0
        for of_writes, of_reads in zip(writes, reads):
            of_writes = sorted(of_writes)
            for begin, end, _ in random.Random(0).sample(of_reads, min(20, len(of_reads))):
                total += 1
                contended += any(other_begin < end and other_end > begin for other_begin, other_end, _ in of_writes)
        print(f"{sum(map(len, reads))} sectors read, {sum(map(len, writes))} written, "
              f"{100 * contended // total} % of the reads while a write was under way", flush=True)
        self.assertGreater(contended, total // 20)

    def must_be_refutable(self, writes, reads):
        """The judge finds each of many reads that are made false: given the oldest value of their sector."""
        changed = 0
        for of_writes, of_reads in zip(writes, reads):
            old = min((write for write in of_writes if write[2] != ZERO), default=None)
            if old is None or not of_reads:
                continue
            begin, end, _ = max(of_reads)
            if any(old[1] < write[0] and write[1] < begin for write in of_writes):
                changed += 1
                self.assertEqual(len(history.misfits([of_writes], [[(begin, end, old[2])]])), 1)
        self.assertGreater(changed, 0)

    def test_small_clusters(self):
        self.fight(4 * KiB, 8, "zlib")

    def test_small_clusters_with_hardly_a_cache(self):
        self.fight(4 * KiB, 24, "zstd", "cache_size=1m", "workers=4", "commit_interval=1")

    def test_large_clusters(self):
        self.fight(64 * KiB, 3, "zstd", "workers=4")

    def test_large_clusters_through_the_page_cache(self):
        self.fight(64 * KiB, 2, "zlib", "direct=off", "workers=2", "commit_interval=1")

    def test_the_disk_shrinks_and_grows(self):
        self.fight(4 * KiB, 12, "zlib", "workers=4", truncates=True)

    def test_the_disk_shrinks_and_grows_with_large_clusters(self):
        self.fight(64 * KiB, 3, "zlib", truncates=True)


class TheJudge(unittest.TestCase):
    """Histories of one sector, made by hand."""

    def judge(self, writes, *read):
        initial = (history.BEFORE_ALL, history.BEFORE_ALL, ZERO)
        return history.misfits([[initial, *writes]], [[read]])

    def allowed(self, writes, *read):
        self.assertEqual(self.judge(writes, *read), [])

    def forbidden(self, says, writes, *read):
        found = self.judge(writes, *read)
        self.assertEqual(len(found), 1)
        self.assertIn(says, found[0])

    def test_one_after_the_other(self):
        writes = [(10, 20, 1), (30, 40, 2)]
        self.allowed(writes, 1, 5, ZERO)
        self.allowed(writes, 21, 29, 1)
        self.allowed(writes, 41, 50, 2)
        self.forbidden("overwritten", writes, 21, 29, ZERO)
        self.forbidden("overwritten", writes, 41, 50, 1)
        self.forbidden("had not begun", writes, 21, 29, 2)
        self.forbidden("none of this sector's", writes, 41, 50, 3)
        self.forbidden("no write has left", writes, 41, 50, TORN)

    def test_reads_beside_a_write(self):
        writes = [(10, 20, 1), (30, 40, 2)]
        for begin, end in [(25, 31), (31, 39), (35, 60), (25, 60)]:
            self.allowed(writes, begin, end, 1)
            self.allowed(writes, begin, end, 2)
            self.forbidden("overwritten", writes, begin, end, ZERO)

    def test_writes_beside_each_other_end_in_either_order(self):
        writes = [(10, 30, 1), (20, 40, 2), (25, 28, 3)]
        for number in (1, 2, 3):
            self.allowed(writes, 50, 60, number)
        self.forbidden("overwritten", writes, 50, 60, ZERO)

    def test_a_write_that_failed_may_appear_at_any_time_or_never(self):
        writes = [(10, NEVER, 1), (30, 40, 2)]
        for number in (1, 2):
            self.allowed(writes, 50, 60, number)
        self.allowed(writes, 20, 25, ZERO)
        self.forbidden("overwritten", writes, 50, 60, ZERO)

    def test_zeros_of_several_makers(self):
        writes = [(10, 20, 1), (30, 40, ZERO), (50, 60, 2), (70, 80, ZERO)]
        self.allowed(writes, 45, 46, ZERO)
        self.forbidden("overwritten", writes, 65, 66, ZERO)
        self.allowed(writes, 65, 75, ZERO)
        self.allowed(writes, 90, 99, ZERO)
        self.forbidden("overwritten", writes, 90, 99, 2)

    def test_a_crash(self):
        writes = [(10, 20, 1), (30, 40, 2), (50, 60, 3)]
        after = [(5, [ZERO, 1, 2, 3]), (25, [1, 2, 3]), (45, [2, 3]), (65, [3])]  # an fsync began there
        for synced, left in after:
            for number in (ZERO, 1, 2, 3):
                found = self.judge(writes, synced, NEVER, number)
                self.assertEqual(len(found), 0 if number in left else 1, (synced, number))

    def test_values_are_told_apart(self):
        for number in range(1, 40):
            self.assertEqual(history.numbers_in(history.content(number, 7, 3), 7), [number] * 3)
            self.assertEqual(history.numbers_in(history.content(number, 7, 3), 8), [TORN] * 3)
            mixed = bytearray(history.value(number, 7))
            mixed[200:] = history.value(number + 1, 7)[200:]
            self.assertEqual(history.numbers_in(bytes(mixed), 7), [TORN])
            for offset in (0, 9, 15, 16, 300, 511):
                flipped = bytearray(history.value(number, 7))
                flipped[offset] ^= 1
                self.assertEqual(history.numbers_in(bytes(flipped), 7), [TORN])
        self.assertEqual(history.numbers_in(bytes(1024), 7), [ZERO, ZERO])


if __name__ == "__main__":
    harness.main()
