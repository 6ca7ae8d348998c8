"""W: what writing costs."""

import os
from functools import partial

import contenders
import work
from figure import QEMU_UNCOMPRESSED, Figure, Goal
from suite import SMALL_WRITES, SMALLEST, codec_words, image_bytes
from work import BUFFERED, DIRECT, Writing


def written_by_qcowfs(suite, source, writing, compression="zlib", options=()):
    image = suite.empty_image(os.path.getsize(source), compression)
    with suite.qcowfs(image, *options) as server:
        speed = writing.speed(source, server.disk)
    contenders.judge(image, source)
    return {"MB/s": speed, "MB": image_bytes(image) / 1e6, "peak MiB": suite.remember_peak(server) / (1 << 20)}


def written_by_qemu(suite, source, writing, compression="zlib"):
    image = suite.empty_image_by_qemu(os.path.getsize(source), compression)
    with suite.qemu(image, compress=True) as server:
        speed = writing.speed(source, server.disk)
    contenders.judge(image, source)
    return {"MB/s": speed, "MB": image_bytes(image) / 1e6, "peak MiB": server.peak_memory / (1 << 20)}


def sequential(suite, row, faster, larger=None, writing=DIRECT, compression="zlib", options=()):
    """The real files, beside QEMU with the same type of compression."""
    source = suite.data.source
    peer, ours = suite.rounds(row, {
        "QEMU": partial(written_by_qemu, suite, source, writing, compression),
        "qcowfs": partial(written_by_qcowfs, suite, source, writing, compression, options)})
    words = [f"dd {writing}", compression, *options]
    limit = suite.limits.writing(compression, codec_words(options), writing)
    yield Figure(row, ", ".join(words), "MB/s", ours["MB/s"], peer["MB/s"], goal=Goal(">=", faster), limit=limit)
    if larger:
        yield Figure(row, "size of that image", "MB", ours["MB"], peer["MB"], goal=Goal("<=", larger))


def w1(suite):
    yield from sequential(suite, "W1", 14, 1.12)


def w1b(suite):
    yield from sequential(suite, "W1b", 8, writing=BUFFERED)


def w2(suite):
    yield from sequential(suite, "W2", 4, 1.00, options=SMALLEST)


def w3(suite):
    yield from sequential(suite, "W3", 3.5, 1.06, compression="zstd")


def w4(suite):
    """What is left of FUSE's own speed where compression costs next to nothing."""
    source = suite.data.ones
    for writing in (DIRECT, BUFFERED):
        def discarding(writing=writing):
            with suite.limits.discarding(os.path.getsize(source)) as server:
                return {"MB/s": writing.speed(source, server.disk)}

        words = f"dd {writing} of 0xFF"
        if not suite.limits.discard_fs:
            yield Figure("W4", words, skipped="discard_fs is not built")
            continue
        limit, ours = suite.rounds("W4", {"discarding FUSE": discarding,
                                          "qcowfs": partial(written_by_qcowfs, suite, source, writing)})
        yield Figure("W4", words, "MB/s", ours["MB/s"], limit["MB/s"], "discarding FUSE", limit=limit["MB/s"],
                     goal=Goal(">=", 0.8, "limit"))


def rewritten_by_qcowfs(suite, count, fsyncs, options=()):
    image = suite.data.copy(suite.data.filled)
    with suite.qcowfs(image, *options) as server:
        rate = work.random_writes(server.disk, count, fsyncs)
    contenders.judge(image)
    peak = suite.remember_peak(server)
    os.unlink(image)
    return {"writes/s": rate, "peak MiB": peak / (1 << 20)}


def rewritten_by_qemu(suite, count, fsyncs):
    image = suite.data.copy(suite.data.filled_uncompressed)
    with suite.qemu(image) as server:
        rate = work.random_writes(server.disk, count, fsyncs)
    contenders.judge(image)
    os.unlink(image)
    return {"writes/s": rate}


def rewriting(suite, row, count, fsyncs, work_text, faster, limit):
    peer, ours = suite.rounds(row, {"QEMU, uncompressed": partial(rewritten_by_qemu, suite, count, fsyncs),
                                    "qcowfs": partial(rewritten_by_qcowfs, suite, count, fsyncs)})
    yield Figure(row, work_text, "writes/s", ours["writes/s"], peer["writes/s"], QEMU_UNCOMPRESSED,
                 Goal(">=", faster), limit)


def w5(suite):
    yield from rewriting(suite, "W5", suite.sizes.random_writes, "--end_fsync=1",
                         "random 4 KiB, full image, one fsync", 2, suite.limits.random_rewrites())


def w6(suite):
    yield from rewriting(suite, "W6", suite.sizes.synced_writes, "--fsync=1",
                         "random 4 KiB, full image, fsync after each", 1.0, suite.limits.disk_synced_writes())


def w8(suite):
    """Small blocks, beside the same part of the data in large ones: QEMU cannot write them compressed."""
    for block, size in (("4k", suite.sizes.part_4k), ("512", suite.sizes.part_512)):
        source = suite.data.part(size)
        writing = Writing(block, direct=False)
        large, plain, gathered = suite.rounds("W8", {
            f"qcowfs bs=1M, {size >> 20} MiB": partial(written_by_qcowfs, suite, source, BUFFERED),
            f"qcowfs bs={block}": partial(written_by_qcowfs, suite, source, writing),
            f"qcowfs bs={block}, gathered": partial(written_by_qcowfs, suite, source, writing, "zlib", SMALL_WRITES)})
        words = f"dd {writing}, {size >> 20} MiB"
        yield Figure("W8", words, "MB/s", plain["MB/s"], large["MB/s"], "qcowfs, bs=1M",
                     limit=suite.limits.small_blocks(writing, source))
        yield Figure("W8", ", ".join([words, *SMALL_WRITES]), "MB/s", gathered["MB/s"], large["MB/s"],
                     "qcowfs, bs=1M", Goal(">=", 0.5))
