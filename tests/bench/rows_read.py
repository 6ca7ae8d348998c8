"""R: what reading costs, of an image that QEMU compressed, with cold caches."""

import os

import machine
import work
from figure import Figure, Goal
from machine import run


def cold(suite, image):
    """Nothing of the disk is in memory but what a fresh mount puts there."""
    if not machine.forget_caches(image):
        suite.tell("the page cache is not ours to drop: reads may find parts of the image in it")


def read_by_qcowfs(suite, image, read, options=(), source=None):
    cold(suite, image)
    with suite.qcowfs(image, *options) as server:
        rate = read(server.disk)
        if source:
            run("cmp", source, server.disk)
    return {"rate": rate, "peak MiB": suite.remember_peak(server) / (1 << 20)}


def read_by_qemu(suite, image, read):
    cold(suite, image)
    with suite.qemu(image, writable=False) as server:
        return {"rate": read(server.disk)}


def compare(suite, row, image, read, source=None):
    """(QEMU's rate, ours)"""
    peer, ours = suite.rounds(row, {"QEMU": lambda: read_by_qemu(suite, image, read),
                                    "qcowfs": lambda: read_by_qcowfs(suite, image, read, source=source)})
    return peer["rate"], ours["rate"]


def sequential(suite, row, compression, faster):
    source = suite.data.source
    size = os.path.getsize(source)
    image = suite.data.converted(compression)
    peer, ours = compare(suite, row, image, lambda disk: work.reading_speed(disk, size), source)
    yield Figure(row, f"dd bs=1M of a {compression} image by qemu-img", "MB/s", ours, peer, goal=Goal(">=", faster),
                 limit=suite.limits.reading(compression))


def r1(suite):
    yield from sequential(suite, "R1", "zlib", 3)


def r2(suite):
    yield from sequential(suite, "R2", "zstd", 4)


def random_reading(suite, jobs, *options):
    return lambda disk: work.random_reads(disk, suite.sizes.reading_s, jobs, *options)


def r3(suite):
    image = suite.data.converted("zlib")
    for jobs, faster in ((1, 1.3), (4, 1.7)):
        peer, ours = compare(suite, "R3", image, random_reading(suite, jobs))
        yield Figure("R3", f"random 4 KiB, cold, {jobs} job{'s' if jobs > 1 else ''}", "reads/s", ours, peer,
                     goal=Goal(">=", faster), limit=suite.limits.cold_random_reads(jobs))


ZIPF = "--random_distribution=zipf:1.1"


def r4(suite):
    peer, ours = compare(suite, "R4", suite.data.converted("zlib"), random_reading(suite, 4, ZIPF))
    limit = suite.limits.fuse_random_reads(4) if suite.limits.discard_fs else None
    yield Figure("R4", "random 4 KiB, zipf:1.1, 4 jobs", "reads/s", ours, peer, goal=Goal(">=", 5), limit=limit)
