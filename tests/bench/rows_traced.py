"""S3: what metadata costs the disk, counted in a run of its own that nothing is timed in."""

import os
import random

import contenders
import syscalls
import work
from data import CLUSTER
from figure import QEMU, QEMU_UNCOMPRESSED, Figure, Goal
from machine import GiB
from work import DIRECT


def traced(suite, who, what, image, serve, work_on, source=None):
    """Serves `image` under strace while `work_on(disk)` runs."""
    path = suite.path("trace")
    with serve(syscalls.prefix(path)) as server:
        work_on(server.disk)
    counted = syscalls.account(path, image)
    contenders.judge(image, source)
    os.unlink(image)
    suite.samples.append({"row": "S3", "round": 1, "who": who, "what": what, **counted})
    return counted


def by_both(suite, what, ours, theirs, compress, work_on, source=None):
    """(what qcowfs does, what QEMU does)"""
    return (traced(suite, "qcowfs", what, ours, lambda prefix: suite.qcowfs(ours, prefix=prefix), work_on, source),
            traced(suite, "QEMU", what, theirs,
                   lambda prefix: suite.qemu(theirs, compress=compress, prefix=prefix), work_on, source))


def write_first(disk, count):
    """4 KiB and an fsync at random places, each in a cluster of its own: a second to the same is an error with QEMU."""
    source = random.Random("places")
    target = os.open(disk, os.O_WRONLY)
    try:
        for place in source.sample(range(os.path.getsize(disk) // CLUSTER), count):
            os.pwrite(target, source.randbytes(2048) + bytes(2048), place * CLUSTER)
            os.fsync(target)
    finally:
        os.close(target)


def figures(words, counted, scale, peer_name, goal):
    ours, peer = counted
    yield Figure("S3", f"barriers, {words}", "", ours["barriers"] * scale, peer["barriers"] * scale, peer_name, goal)
    yield Figure("S3", f"metadata written, {words}", "kB", ours["metadata"] * scale / 1e3,
                 peer["metadata"] * scale / 1e3, peer_name, goal)


def s3(suite):
    source = suite.data.source
    size = os.path.getsize(source)
    fewer = Goal("<", 1.0)
    counted = by_both(suite, "sequential", suite.empty_image(size), suite.empty_image_by_qemu(size), True,
                      lambda disk: DIRECT.speed(source, disk), source)
    yield from figures("a GiB in sequence", counted, GiB / size, QEMU, fewer)

    count = min(suite.sizes.synced_writes, size // CLUSTER)
    counted = by_both(suite, "first writes", suite.empty_image(size), suite.empty_image_by_qemu(size), True,
                      lambda disk: write_first(disk, count))
    yield from figures("1000 fsynced 4 KiB writes to an empty image", counted, 1000 / count, QEMU, fewer)

    counted = by_both(suite, "rewrites", suite.data.copy(suite.data.filled),
                      suite.data.copy(suite.data.filled_uncompressed), False,
                      lambda disk: work.random_writes(disk, count, "--fsync=1"))
    yield from figures("1000 fsynced 4 KiB writes to a full image", counted, 1000 / count, QEMU_UNCOMPRESSED, None)
