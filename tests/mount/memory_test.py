#!/usr/bin/env -S python3 -B
"""The daemon's memory: its peak, and where there is no more. Not for sanitizer builds: theirs is not the program's."""

import errno
import os
import random
import resource

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

    def test_workers_that_there_is_no_memory_for(self):
        image = self.create(8 * MiB)
        twin = self.twin(8 * MiB)
        daemon = self.mount(image, "workers=2")
        status = harness.read_text(f"/proc/{daemon.pid}/status")
        mapped = int(status.partition("VmSize:")[2].split()[0]) * KiB
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_AS)
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, (mapped + 64 * MiB, limits[1]))
        with self.assertRaises(OSError) as caught:
            os.setxattr(daemon.disk, "user.qcowfs.workers", b"1000")
        self.assertEqual(caught.exception.errno, errno.ENOMEM)
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, limits)
        os.setxattr(daemon.disk, "user.qcowfs.workers", b"1")
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 777, content.mixed(4 * MiB, 1))
        daemon.unmount()
        self.judge(image, twin)


if __name__ == "__main__":
    harness.main()
