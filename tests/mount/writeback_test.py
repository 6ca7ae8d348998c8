#!/usr/bin/env -S python3 -B
"""With -o writeback_cache everything reads and is stored as without it, and small writes are gathered."""

import os
import random
import signal

import content
import data_test
import harness
from harness import KiB, MiB, QCOWFS, run


class Gathered:
    OPTIONS = ("writeback_cache",)


class Copy(Gathered, data_test.Copy):
    pass


class Dd(Gathered, data_test.Dd):
    pass


class Direct(Gathered, data_test.Direct):
    pass


class Mmap(Gathered, data_test.Mmap):
    pass


class Concurrent(Gathered, data_test.Concurrent):
    pass


class Edges(Gathered, data_test.Edges):
    pass


class Gathering(Gathered, harness.MountCase):
    def test_small_writes_of_any_alignment(self):
        image = self.create(8 * MiB)
        twin = self.twin(8 * MiB)
        daemon = self.mount(image)
        source = random.Random(1)
        with open(daemon.disk, "r+b", buffering=0) as disk, open(twin, "r+b", buffering=0) as raw:
            for number in range(4000):
                data = content.text(source.randint(1, 700), number)
                at = source.randrange(8 * MiB - 700)
                for file in (disk, raw):
                    os.pwrite(file.fileno(), data, at)
                if number % 500 == 0:
                    os.fsync(disk.fileno())
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_data_that_the_kernel_still_holds_is_no_hole(self):
        image = self.create(8 * MiB)
        daemon = self.mount(image)
        with open(daemon.disk, "r+b", buffering=0) as disk:
            os.pwrite(disk.fileno(), b"new", 5 * MiB)
            self.assertLessEqual(os.lseek(disk.fileno(), 0, os.SEEK_DATA), 5 * MiB)
            self.assertLessEqual(os.lseek(disk.fileno(), 5 * MiB, os.SEEK_DATA), 5 * MiB)
        copy = self.path("copy.raw")
        run("cp", "--sparse=always", daemon.disk, copy)
        self.assertEqual(harness.read_at(copy, 5 * MiB, 3), b"new")
        daemon.unmount()

    def test_what_fsync_promised_survives_the_daemon(self):
        image = self.create(8 * MiB)
        daemon = self.mount(image)
        data = content.text(300 * KiB, 1)
        disk = os.open(daemon.disk, os.O_RDWR)
        for at in range(0, len(data), 100):
            os.pwrite(disk, data[at:at + 100], at)
        os.fsync(disk)
        os.kill(daemon.pid, signal.SIGKILL)
        with self.assertRaises(OSError):
            os.close(disk)
        run(QCOWFS, "umount", daemon.point)
        daemon = self.mount(image)
        self.assertEqual(harness.read_at(daemon.disk, 0, len(data)), data)
        daemon.unmount()

    def test_small_writes_are_gathered(self):
        image = self.create(8 * MiB)
        daemon = self.mount(image)
        before = daemon.system_calls_to_read()
        with open(daemon.disk, "r+b", buffering=0) as disk:
            for at in range(0, 4 * MiB, 512):
                os.pwrite(disk.fileno(), b"x" * 512, at)
            os.fsync(disk.fileno())
        requests = daemon.system_calls_to_read() - before
        daemon.unmount()
        self.assertLess(requests, 8192 / 2)  # a page is read before its first part is written


if __name__ == "__main__":
    harness.main()
