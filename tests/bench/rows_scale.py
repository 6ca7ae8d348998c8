"""M and S: memory, processors and size."""

import mmap
import os
import random
import time

import contenders
import machine
import rows_read
import rows_write
import work
from figure import Figure, Goal
from machine import MiB
from suite import SMALL_CACHE
from work import DIRECT

PIECE = MiB


def works_for_memory(suite, options):
    """W1, W5, R1 and R4, once each."""
    source = suite.data.source
    rows_write.written_by_qcowfs(suite, source, DIRECT, "zlib", options)
    rows_write.rewritten_by_qcowfs(suite, suite.sizes.random_writes, "--end_fsync=1", options)
    image = suite.data.converted("zlib")
    size = os.path.getsize(source)
    rows_read.read_by_qcowfs(suite, image, lambda disk: work.reading_speed(disk, size), options)
    rows_read.read_by_qcowfs(suite, image, rows_read.random_reading(suite, 4, rows_read.ZIPF), options)


def m1(suite):
    """The largest of what any row saw, and of four kinds of work with a small cache."""
    for options, most, words in (((), 200, "of all rows above, defaults"),
                                 ((SMALL_CACHE,), 48, f"of W1, W5, R1, R4 with {SMALL_CACHE}")):
        if not any(mounted == options for mounted, _ in suite.peaks):
            works_for_memory(suite, options)
        peak = max(size for mounted, size in suite.peaks if mounted == options) / MiB
        suite.samples.append({"row": "M1", "round": 1, "who": "qcowfs", "options": options, "peak MiB": peak})
        yield Figure("M1", f"peak memory {words}", "MiB", peak, goal=Goal("<=", most, "value"))


def s1(suite):
    """A second processor where compression is the whole cost."""
    def writing(workers):
        options = ("level=6", f"workers={workers}")
        return lambda: rows_write.written_by_qcowfs(suite, suite.data.source, DIRECT, "zlib", options)

    if (os.cpu_count() or 1) < 2:
        yield Figure("S1", "W1 with level=6, workers=2", skipped="one processor")
        return
    one, two = suite.rounds("S1", {"workers=1": writing(1), "workers=2": writing(2)})
    yield Figure("S1", "W1 with level=6, workers=2", "MB/s", two["MB/s"], one["MB/s"], "qcowfs, workers=1",
                 Goal(">=", 1.8))


def scattered(suite):
    """(a disk of terabytes with pieces of data all over it, where they are)."""
    image = suite.path("scattered.qcow2")
    size = suite.sizes.scattered_disk
    places = random.Random("places").sample(range(size // PIECE), suite.sizes.scattered // PIECE)
    contenders.create(suite.program, image, size)
    with suite.qcowfs(image) as server, open(suite.data.full, "rb") as source:
        descriptor = os.open(server.disk, os.O_WRONLY)
        try:
            for place in places:
                data = source.read(PIECE)
                if not data:
                    source.seek(0)
                    data = source.read(PIECE)
                os.pwrite(descriptor, data, place * PIECE)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    suite.remember_peak(server)
    contenders.judge(image)
    return image, places


def reads_from_pieces(disk, places, seconds):
    """Random direct reads of 4 KiB inside the pieces at `places`, a second."""
    source = random.Random("reads")
    descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    memory = mmap.mmap(-1, 4096)  # aligned as direct I/O wants it
    count = 0
    started = time.monotonic()
    try:
        while time.monotonic() < started + seconds:
            at = source.choice(places) * PIECE + source.randrange(PIECE // 4096) * 4096
            os.preadv(descriptor, [memory], at)
            count += 1
    finally:
        os.close(descriptor)
    return count / (time.monotonic() - started)


def mount_and_read(suite, image, places):
    machine.forget_caches(image)
    with suite.qcowfs(image) as server:
        rate = reads_from_pieces(server.disk, places, suite.sizes.reading_s)
    suite.remember_peak(server)
    return {"milliseconds": server.seconds_to_live * 1000, "reads/s": rate}


def s2(suite):
    """Terabytes cost no more than a gibibyte."""
    small = suite.data.filled
    pieces = list(range(os.path.getsize(suite.data.full) // PIECE))
    large, places = scattered(suite)
    small_one, large_one = suite.rounds("S2", {"small disk": lambda: mount_and_read(suite, small, pieces),
                                               "large disk": lambda: mount_and_read(suite, large, places)})
    disk = f"{suite.sizes.scattered_disk >> 40} TiB disk"
    yield Figure("S2", f"from start to live mount, {disk}", "ms", large_one["milliseconds"],
                 small_one["milliseconds"], "qcowfs, small disk", Goal("<=", 100, "value"))
    yield Figure("S2", f"random 4 KiB of its data, {disk}", "reads/s", large_one["reads/s"], small_one["reads/s"],
                 "qcowfs, small disk", Goal(">=", 0.85))
    os.unlink(large)
