#!/usr/bin/env -S python3 -B
"""Many images side by side: each has a daemon of its own, all have a budget of memory together, and none minds the
others being written, killed or unmounted.
"""

import os
import random
import threading
import time

import content
import harness
from harness import KiB, MiB, scaled

MOUNTS = scaled(32, 6)
DISK_SIZE = 24 * MiB
CACHE_SIZE = 8 * MiB
OPERATIONS = scaled(12, 8)
OWN_MEMORY = 16 * MiB  # of a daemon and its helper, beside its cache and tables


def proportional_memory(pid):
    """Bytes that the process and its children take, what is shared divided by how many share it."""
    children = harness.read_text(f"/proc/{pid}/task/{pid}/children").split()
    total = 0
    for process in (pid, *map(int, children)):
        for line in harness.read_text(f"/proc/{process}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * KiB
    return total


class Disk:
    """One image, its mount and its twin, written by a thread."""

    def __init__(self, case, number):
        self.case = case
        self.source = random.Random(number)
        self.image = case.create(DISK_SIZE, name=f"disk-{number}.qcow2")
        self.twin = case.twin(DISK_SIZE, name=f"twin-{number}.raw")
        self.daemon = None
        self.syncs = 0
        self.failure = None

    def mount(self):
        self.daemon = self.case.mount(self.image, f"cache_size={CACHE_SIZE}", "workers=1")

    def work(self):
        try:
            for _ in range(OPERATIONS):
                self.operate()
        except (OSError, AssertionError) as error:
            self.failure = error

    def operate(self):
        length = 4 * KiB * self.source.randint(1, 64)
        offset = 4 * KiB * self.source.randrange((DISK_SIZE - length) // (4 * KiB))
        data = content.mixed(length, offset + self.syncs)
        for target in (self.daemon.disk, self.twin):
            harness.write_at(target, offset, data)
        harness.fsync(self.daemon.disk)
        self.syncs += 1


class Many(harness.MountCase):
    def test_written_at_once_within_a_budget(self):
        disks = [Disk(self, number) for number in range(MOUNTS)]
        for disk in disks:
            disk.mount()
        idle = sum(proportional_memory(disk.daemon.pid) for disk in disks)
        seconds = self.work(disks)
        busy = sum(proportional_memory(disk.daemon.pid) for disk in disks)
        descriptors = max(len(os.listdir(f"/proc/{disk.daemon.pid}/fd")) for disk in disks)
        threads = max(len(os.listdir(f"/proc/{disk.daemon.pid}/task")) for disk in disks)
        syncs = sum(disk.syncs for disk in disks)
        print(f"{MOUNTS} mounts, each: {idle / MOUNTS / MiB:.1f} MiB idle, {busy / MOUNTS / MiB:.1f} MiB after writes, "
              f"{descriptors} descriptors, {threads} threads; together {syncs / seconds:.0f} fsyncs/s", flush=True)
        if not harness.SANITIZED:
            self.assertLess(busy, MOUNTS * (CACHE_SIZE + OWN_MEMORY))
        self.assertLess(descriptors, 32)

        for disk in disks[::2]:  # what the others have is theirs
            disk.daemon.kill()
        for disk in disks[1::2]:
            self.assert_same_bytes(disk.daemon.disk, disk.twin)
        for disk in disks[::2]:
            disk.mount()
        self.work(disks)
        for disk in disks:
            self.assert_same_bytes(disk.daemon.disk, disk.twin)
            disk.daemon.unmount()
            self.judge(disk.image, disk.twin)

    def work(self, disks):
        """All write at the same time. Seconds it took."""
        threads = [threading.Thread(target=disk.work) for disk in disks]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([disk.failure for disk in disks if disk.failure], [])
        return time.monotonic() - started


if __name__ == "__main__":
    harness.main()
