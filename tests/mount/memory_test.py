#!/usr/bin/env -S python3 -B
"""The daemon's peak memory. Not for sanitizer builds: their memory is not the program's."""

import os
import random

import content
import harness
from harness import GiB, KiB, MiB, run

LIMIT = 256 * MiB


class Memory(harness.MountCase):
    def test_streaming_a_gibibyte(self):
        image = self.create(GiB)
        block = content.mixed(64 * MiB, 1)
        source = self.path("source.img")
        with open(source, "wb") as file:
            for number in range(16):  # no block is like another
                file.write(block[number * MiB:] + block[:number * MiB])
        daemon = self.mount(image)
        for _ in range(2):
            run("dd", f"if={source}", f"of={daemon.disk}", "bs=1M", "conv=notrunc,fsync", timeout=300)
        harness.forget_cached(daemon.disk)
        run("cmp", source, daemon.disk, timeout=300)
        peak = daemon.peak_memory()
        daemon.unmount()
        print(f"peak memory: {peak // MiB} MiB")
        self.assertLess(peak, LIMIT)
        self.judge(image, source)

    def test_small_writes_all_over_large_clusters(self):
        """Each touches another cluster of 2 MiB: the most dirty memory for a byte written."""
        size = 8 * GiB
        image = self.create(size, "--cluster-size", 2 * MiB)
        twin = self.twin(size)
        daemon = self.mount(image)
        source = random.Random("places")
        fds = [os.open(disk, os.O_RDWR) for disk in (daemon.disk, twin)]
        for number in range(3000):
            data = content.text(4 * KiB, number)
            offset = source.randrange(size - len(data))
            for fd in fds:
                os.pwrite(fd, data, offset)
        for fd in fds:
            os.close(fd)
        peak = daemon.peak_memory()
        daemon.unmount(timeout=300)
        print(f"peak memory: {peak // MiB} MiB")
        self.assertLess(peak, LIMIT)
        self.judge(image, twin)


if __name__ == "__main__":
    harness.main()
