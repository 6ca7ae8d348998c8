"""What all rows share: where they work, with what, and what they have measured so far."""

import os
import statistics

import contenders
import data
import limits
from contenders import Qcowfs, StorageDaemon

# What the project recommends where the size of the image counts most.
SMALLEST = ("level=4", "window=32k")
# And where programs write a few kilobytes at a time.
SMALL_WRITES = ("writeback_cache",)

SMALL_CACHE = "cache_size=16M"


def codec_words(options):
    """(level, window) among mount options, as codec_speed wants them; 0 and 4k where they say nothing."""
    said = dict(option.split("=", 1) for option in options if "=" in option)
    return said.get("level", "0"), said.get("window", "4k")


class Suite:
    def __init__(self, folder, programs, repeat, quick, tell):
        self.folder = folder
        self.program = programs["qcowfs"]
        self.repeat = repeat
        self.tell = tell  # a line for whoever waits
        self.sizes = data.QUICK if quick else data.FULL
        self.data = data.Data(folder, self.sizes, self.program)
        self.limits = limits.Limits(folder, self.data, programs["discard_fs"], programs["codec_speed"], repeat)
        self.samples = []  # every single measurement
        self.peaks = []  # (options, bytes) of every qcowfs that a row has mounted

    def path(self, name):
        return os.path.join(self.folder, name)

    def qcowfs(self, image, *options, prefix=()):
        return Qcowfs(self.program, self.folder, image, *options, prefix=prefix)

    def qemu(self, image, **options):
        return StorageDaemon(self.folder, image, **options)

    def empty_image(self, size, compression="zlib"):
        image = self.path("ours.qcow2")
        contenders.create(self.program, image, size, compression)
        return image

    def empty_image_by_qemu(self, size, compression="zlib"):
        image = self.path("qemu.qcow2")
        contenders.create_by_qemu(image, size, compression)
        return image

    def rounds(self, row, measurements):
        """`measurements` is {who: function that returns {what: number}}. Calls them in turn, as often as wanted. The
        medians, in the same order."""
        taken = {who: [] for who in measurements}
        for number in range(self.repeat):
            for who, measure in measurements.items():
                sample = measure()
                taken[who].append(sample)
                self.samples.append({"row": row, "round": number + 1, "who": who, **sample})
        return [medians(samples) for samples in taken.values()]

    def remember_peak(self, server):
        """Of a qcowfs that has ended. Bytes."""
        self.peaks.append((server.options, server.peak_memory))
        return server.peak_memory


def medians(samples):
    return {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}


def image_bytes(image):
    """What it takes on the disk."""
    return os.stat(image).st_blocks * 512

