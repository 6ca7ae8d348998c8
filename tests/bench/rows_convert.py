"""C: copying whole disks without a mount, beside qemu-img."""

import os

import contenders
import machine
from figure import Figure, Goal
from machine import run, timed

QEMU_IMG = "qemu-img convert"


def copied(suite, source, target_name, *command, judge=None):
    """MB/s of the disk, with the source in the page cache for both, as a pipeline has it that has just made it."""
    target = suite.path(target_name)
    machine.warm(source)
    size = os.path.getsize(suite.data.source)
    speed = size / timed(*command, source, target) / 1e6
    if judge:
        judge(target)
    result = {"MB/s": speed, "size": os.path.getsize(target)}
    os.unlink(target)
    return result


def compressing(suite, row, compression, faster):
    source = suite.data.source
    theirs = ("qemu-img", "convert", "-c", "-W", "-m", "8", "-t", "none", "-f", "raw", "-O", "qcow2", "-o",
              f"compression_type={compression}")
    ours = (suite.program, "convert", "--compression", compression)
    peer, mine = suite.rounds(row, {
        QEMU_IMG: lambda: copied(suite, source, "theirs.qcow2", *theirs),
        "qcowfs convert": lambda: copied(suite, source, "ours.qcow2", *ours,
                                         judge=lambda image: contenders.judge(image, source))})
    yield Figure(row, f"convert -c to {compression}", "MB/s", mine["MB/s"], peer["MB/s"], QEMU_IMG,
                 Goal(">=", faster))


def c1(suite):
    yield from compressing(suite, "C1", "zlib", 10)


def c2(suite):
    yield from compressing(suite, "C2", "zstd", 1.5)


def c3(suite):
    image = suite.data.converted("zlib")
    same = lambda raw: run("cmp", raw, suite.data.source)
    peer, mine = suite.rounds("C3", {
        QEMU_IMG: lambda: copied(suite, image, "theirs.raw", *"qemu-img convert -f qcow2 -O raw -W -m 8".split()),
        "qcowfs convert": lambda: copied(suite, image, "ours.raw", suite.program, "convert", "-O", "raw", judge=same)})
    yield Figure("C3", "convert -O raw of a zlib image", "MB/s", mine["MB/s"], peer["MB/s"], QEMU_IMG, Goal(">=", 1.3))
