"""What stands between any program like this one and infinity, measured in the same run: the codec on all processors, a
FUSE file system that does nothing, and the disk. Each is measured once, when a row first asks for it."""

import functools
import json
import os
import statistics

import machine
import work
from contenders import DiscardFs
from machine import run

CLUSTER = 64 << 10  # bytes


class Limits:
    """`discard_fs` and `codec_speed` are programs, or None where they are not built: that limit is then not known."""

    def __init__(self, folder, data, discard_fs, codec_speed, repeat):
        self.folder = folder
        self.data = data
        self.discard_fs = discard_fs
        self.codec_speed = codec_speed
        self.repeat = repeat
        self.measured = {}  # for the report

    def note(self, what, value):
        self.measured[what] = value
        return value

    def discarding(self, size):
        return DiscardFs(self.discard_fs, self.folder, size)

    @functools.cache
    def codec(self, compression, threads, level="0", window="4k"):
        """{compress_mbps, decompress_mbps, ratio}"""
        words = [self.data.source, compression, level, threads, window]
        machine.warm(self.data.source)
        answers = [json.loads(run(self.codec_speed, *words).stdout) for _ in range(self.repeat)]
        crew = "1 thread" if threads == 1 else f"{threads} threads"
        how = "default" if level == "0" else level
        return self.note(f"codec {compression} level {how}, window {window}, {crew}",
                         {name: statistics.median(answer[name] for answer in answers) for name in answers[0]})

    @functools.cache
    def fuse_writing(self, writing, source):
        """MB/s"""
        with self.discarding(os.path.getsize(source)) as server:
            speed = statistics.median(writing.speed(source, server.disk) for _ in range(self.repeat))
        return self.note(f"discarding FUSE, writing {writing} MB/s", speed)

    def small_blocks(self, writing, source):
        """MB/s: a request for each block, if nothing gathers them in the kernel."""
        return self.fuse_writing(writing, source) if self.discard_fs else None

    @functools.cache
    def fuse_reading(self):
        """MB/s"""
        size = os.path.getsize(self.data.source)
        speeds = []
        for _ in range(self.repeat):
            with self.discarding(size) as server:
                speeds.append(work.reading_speed(server.disk, size))
        return self.note("discarding FUSE, reading MB/s", statistics.median(speeds))

    @functools.cache
    def fuse_random_reads(self, jobs):
        """Of 4 KiB, a second."""
        with self.discarding(os.path.getsize(self.data.source)) as server:
            rate = work.random_reads(server.disk, self.data.sizes.reading_s, jobs)
        return self.note(f"discarding FUSE, 4 KiB reads/s, jobs: {jobs}", rate)

    @functools.cache
    def fuse_random_writes(self):
        """Of 4 KiB, a second."""
        with self.discarding(os.path.getsize(self.data.source)) as server:
            rate = work.random_writes(server.disk, self.data.sizes.random_writes)
        return self.note("discarding FUSE, 4 KiB writes/s", rate)

    @functools.cache
    def disk(self):
        """(writing, reading) MB/s"""
        return self.note("disk, (writing, reading) MB/s", work.disk_speed(self.folder, self.data.source))

    @functools.cache
    def disk_random_reads(self, jobs):
        """Of 32 KiB, about what a cluster takes in an image, a second."""
        rate = work.random_reads(self.data.source, self.data.sizes.reading_s, jobs, "--bs=32k")
        return self.note(f"disk, 32 KiB reads/s, jobs: {jobs}", rate)

    @functools.cache
    def disk_synced_writes(self):
        """Of 4 KiB with fsync after each, a second."""
        path = self.data.copy(self.data.full)
        rate = work.random_writes(path, self.data.sizes.synced_writes, "--fdatasync=1")
        os.unlink(path)
        return self.note("disk, fsynced 4 KiB writes/s", rate)

    def writing(self, compression, level_and_window, writing):
        """MB/s: the slowest of codec, FUSE and disk, each working while the others do."""
        if not self.codec_speed or not self.discard_fs:
            return None
        codec = self.codec(compression, os.cpu_count() or 1, *level_and_window)
        disk = self.disk()[0] / max(codec["ratio"], 1e-3)
        return min(codec["compress_mbps"], self.fuse_writing(writing, self.data.source), disk)

    def reading(self, compression):
        """MB/s"""
        if not self.codec_speed or not self.discard_fs:
            return None
        codec = self.codec(compression, os.cpu_count() or 1)
        return min(codec["decompress_mbps"], self.fuse_reading(), self.disk()[1] / max(codec["ratio"], 1e-3))

    def cold_random_reads(self, jobs):
        """A second. One job waits for the disk, the codec and FUSE in turn; many keep all of them busy."""
        if not self.codec_speed or not self.discard_fs:
            return None
        decoded = self.codec("zlib", min(jobs, os.cpu_count() or 1))["decompress_mbps"] * 1e6 / CLUSTER
        rates = [self.fuse_random_reads(jobs), self.disk_random_reads(jobs), decoded]
        return 1 / sum(1 / rate for rate in rates) if jobs == 1 else min(rates)

    def random_rewrites(self):
        """A second, where each write means that a cluster is decompressed and compressed."""
        if not self.codec_speed or not self.discard_fs:
            return None
        codec = self.codec("zlib", os.cpu_count() or 1)
        seconds = CLUSTER / 1e6 / codec["compress_mbps"] + CLUSTER / 1e6 / codec["decompress_mbps"]
        return min(1 / seconds, self.fuse_random_writes())
