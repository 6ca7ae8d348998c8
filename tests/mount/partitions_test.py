#!/usr/bin/env -S python3 -B
"""Partitions as files: named as sfdisk lists them, each confined to its own range, and good for file systems."""

import contextlib
import errno
import json
import mmap
import os
import re
import signal

import content
import harness
from harness import KiB, MiB, QCOWFS, run

GPT = "label: gpt\nsize=4M\nsize=3M\nstart=20001,size=1001\nsize=2M\n"  # the third begins and ends within clusters
MBR = "label: dos\nsize=4M\nsize=11M,type=5\nsize=3M\nsize=1001\nsize=2M\nsize=2M\n"
DISK_SIZE = 24 * MiB


class PartitionCase(harness.MountCase):
    def partitioned(self, script=GPT, size=DISK_SIZE):
        """An image with a table, and a raw twin of its whole disk."""
        image = self.create(size)
        daemon = self.mount(image)
        run_with_input("sfdisk", "-q", daemon.disk, text=script)
        daemon.unmount()
        twin = self.path("twin.raw")
        run("qemu-img", "convert", "-O", "raw", image, twin)
        return image, twin

    def file(self, daemon, number):
        return os.path.join(daemon.point, f"p{number}")

    def table(self, disk):
        """{number: (start, size)} in bytes, as sfdisk reads them, without extended partitions."""
        rows = json.loads(run("sfdisk", "-J", disk).stdout)["partitiontable"]["partitions"]
        return {int(re.search(r"\d+$", row["node"]).group()): (row["start"] * 512, row["size"] * 512)
                for row in rows if row["type"] not in ("5", "f")}

    def assert_error(self, number, action):
        with self.assertRaises(OSError) as caught:
            action()
        self.assertEqual(caught.exception.errno, number, caught.exception)


def run_with_input(*command, text):
    """run() with a script on stdin."""
    with open("/proc/self/fd/" + str(memory_file(text)), encoding="ascii") as script:
        return run(*command, stdin=script)


def memory_file(text):
    fd = os.memfd_create("script")
    os.write(fd, text.encode())
    return fd


class Files(PartitionCase):
    def test_names_sizes_and_bytes_are_those_of_the_table(self):
        for name, script in (("gpt", GPT), ("mbr", MBR)):
            with self.subTest(table=name):
                image, twin = self.partitioned(script)
                table = self.table(twin)
                self.assertEqual(sorted(table), [1, 2, 3, 4] if name == "gpt" else [1, 3, 4, 5, 6])
                daemon = self.mount(image, "partitions")
                self.assertEqual(sorted(os.listdir(daemon.point)), sorted(f"p{number}" for number in table))
                for number, (start, size) in table.items():
                    self.assertEqual(os.path.getsize(self.file(daemon, number)), size)
                    data = content.mixed(size, number)
                    harness.write_at(self.file(daemon, number), 0, data)
                    harness.write_at(twin, start, data)
                for number, (start, size) in table.items():
                    self.assertEqual(harness.read_at(self.file(daemon, number), 0, size + KiB),
                                     harness.read_at(twin, start, size))
                daemon.unmount()
                self.judge(image, twin)
                os.remove(image)

    def test_one_partition_alone(self):
        image, twin = self.partitioned()
        start, size = self.table(twin)[3]
        for over_file in (False, True):
            daemon = self.mount(image, "partition=3", over_file=over_file)
            path = daemon.disk if over_file else self.file(daemon, 3)
            if not over_file:
                self.assertEqual(os.listdir(daemon.point), ["p3"])
            self.assertEqual(os.path.getsize(path), size)
            data = content.mixed(size, over_file)
            harness.write_at(path, 0, data)
            harness.write_at(twin, start, data)
            self.assert_error(errno.ENOSPC, lambda: harness.write_at(path, size, b"x"))
            daemon.unmount()
            self.judge(image, twin)

    def test_the_table_is_that_of_the_mount(self):
        """A backup of a GPT is used where the first copy is damaged; the disk itself shows what is there."""
        image, twin = self.partitioned()
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 512, bytes(512))
        daemon.unmount()
        daemon = self.mount(image, "partitions")
        self.assertEqual(sorted(os.listdir(daemon.point)), ["p1", "p2", "p3", "p4"])
        daemon.unmount()
        self.judge(image, twin)

    def test_read_only(self):
        image, _ = self.partitioned()
        daemon = self.mount(image, "partitions", "ro")
        self.assertEqual(os.path.getsize(self.file(daemon, 1)), 4 * MiB)
        with self.assertRaises(OSError):
            open(self.file(daemon, 1), "r+b")
        daemon.unmount()


class Confined(PartitionCase):
    def setUp(self):
        super().setUp()
        self.image, self.twin = self.partitioned()
        self.start, self.size = self.table(self.twin)[3]
        daemon = self.mount(self.image)
        table_end = MiB
        data = content.mixed(DISK_SIZE - 2 * table_end, 9)
        for disk in (daemon.disk, self.twin):  # neighbours that would show what is done to them
            harness.write_at(disk, table_end, data)
        daemon.unmount()
        self.daemon = self.mount(self.image, "partitions")
        self.path_3 = self.file(self.daemon, 3)

    def end(self):
        self.daemon.unmount()
        self.judge(self.image, self.twin)

    def test_writes_across_the_end_are_short(self):
        fd = os.open(self.path_3, os.O_WRONLY)
        self.assertEqual(os.pwrite(fd, b"s" * 128 * KiB, self.size - 7), 7)
        harness.write_at(self.twin, self.start + self.size - 7, b"s" * 7)
        for at in (self.size, self.size + MiB):
            self.assert_error(errno.ENOSPC, lambda: os.pwrite(fd, b"s", at))
        os.close(fd)
        with open(self.path_3, "ab", buffering=0) as file:
            self.assert_error(errno.ENOSPC, lambda: file.write(b"appended"))
        self.assertEqual(harness.read_at(self.path_3, self.size - 8, 100),
                         harness.read_at(self.twin, self.start + self.size - 8, 8))
        self.end()

    def test_direct_writes_across_the_end_are_refused(self):
        """The kernel would take a short one for a failure of the device."""
        fd = os.open(self.path_3, os.O_WRONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 8 * KiB)
        buffer.write(b"s" * len(buffer))
        at = self.size - 4 * KiB
        for refused in (at, self.size):
            self.assert_error(errno.ENOSPC, lambda: os.pwrite(fd, buffer, refused))
        self.assertEqual(os.pwrite(fd, memoryview(buffer)[:4 * KiB], at), 4 * KiB)
        harness.write_at(self.twin, self.start + at, b"s" * 4 * KiB)
        os.close(fd)
        self.assertEqual(os.path.getsize(self.path_3), self.size)
        self.end()

    def test_dd_fills_it_to_the_last_byte(self):
        done = run("dd", "if=/dev/zero", f"of={self.path_3}", "bs=1M", "conv=notrunc", expect=1)
        self.assertIn("No space left on device", done.stderr)
        harness.write_at(self.twin, self.start, bytes(self.size))
        self.end()

    def test_the_size_stays(self):
        for size in (0, self.size - 1, self.size + 1):
            self.assert_error(errno.EPERM, lambda: os.truncate(self.path_3, size))
        self.assert_error(errno.EPERM, lambda: open(self.path_3, "wb"))
        os.truncate(self.path_3, self.size)
        self.assert_error(errno.ENOSPC, lambda: harness.fallocate(self.path_3, 0, self.size - 512, 1024))
        self.assert_error(errno.ENOSPC, lambda: harness.zero_range(self.path_3, self.size - 512, 1024, False))
        self.assertEqual(os.path.getsize(self.path_3), self.size)
        self.end()

    def test_holes_end_where_it_ends(self):
        harness.punch(self.path_3, self.size - 100, MiB)
        harness.punch(self.twin, self.start + self.size - 100, 100)
        harness.zero_range(self.path_3, 10, 70 * KiB)
        harness.zero_range(self.twin, self.start + 10, 70 * KiB)
        self.end()

    def test_data_and_holes_are_found(self):
        harness.punch(self.path_3, 0, self.size)
        harness.punch(self.twin, self.start, self.size)
        fd = os.open(self.path_3, os.O_RDWR)
        os.pwrite(fd, b"d", 300 * KiB)
        harness.write_at(self.twin, self.start + 300 * KiB, b"d")
        os.fsync(fd)
        inside = 200 * KiB  # the clusters at its ends are shared with neighbours: they hold data
        found = os.lseek(fd, inside, os.SEEK_DATA)
        self.assertLessEqual(found, 300 * KiB)
        self.assertGreater(found, inside)
        self.assertEqual((self.start + found) % (64 * KiB), 0)
        self.assertEqual(os.lseek(fd, 300 * KiB, os.SEEK_HOLE), found + 64 * KiB)
        self.assert_error(errno.ENXIO, lambda: os.lseek(fd, self.size, os.SEEK_DATA))
        os.close(fd)
        self.end()

    def test_fsync_outlives_a_kill(self):
        data = content.mixed(100 * KiB, 5)
        harness.write_at(self.path_3, 0, data)
        harness.fsync(self.path_3)
        os.kill(self.daemon.pid, signal.SIGKILL)
        harness.wait_for(lambda: not harness.is_running(self.daemon.pid), 30)
        run("fusermount3", "-u", "-z", self.daemon.point)
        harness.write_at(self.twin, self.start, data)
        daemon = self.mount(self.image)
        daemon.unmount()
        run("qemu-img", "check", "-q", "-r", "leaks", self.image, expect=None)
        self.judge(self.image, self.twin)

    def test_mapped_pages_are_stored_at_a_signal(self):
        size = 3 * MiB
        start = self.table(self.twin)[2][0]
        fd = os.open(self.file(self.daemon, 2), os.O_RDWR)
        with mmap.mmap(fd, size) as pages:
            pages[5 * KiB:6 * KiB] = b"m" * KiB
            harness.write_at(self.twin, start + 5 * KiB, b"m" * KiB)
            os.kill(self.daemon.pid, signal.SIGTERM)
            harness.wait_for(lambda: self.daemon.point not in harness.mounts(), 30)
            self.daemon.must_be_over()
        with contextlib.suppress(OSError):  # it went with its mount
            os.close(fd)
        self.judge(self.image, self.twin)


class Refused(PartitionCase):
    def test_what_cannot_be_shown(self):
        plain = self.create(MiB, name="plain.qcow2")
        empty, _ = self.partitioned("label: gpt\n")
        os.rename(empty, self.path("empty.qcow2"))
        image, _ = self.partitioned()
        point = self.path("point")
        os.mkdir(point)
        file = content.write_file(self.path("file"), b"")
        self.refused(QCOWFS, "-o", "partitions", plain, point, names=[plain], says="no partition table")
        self.refused(QCOWFS, "-o", "partition=1", plain, point, names=[plain], says="no partition table")
        self.refused(QCOWFS, "-o", "partitions", self.path("empty.qcow2"), point, says="has no partitions")
        self.refused(QCOWFS, "-o", "partition=5", image, point, names=[image], says="no partition 5, only 1, 2, 3, 4$")
        self.refused(QCOWFS, "-o", "partitions", image, file, names=[file], says="partition=N")
        self.refused(QCOWFS, "-o", "partitions,writeback_cache", image, point, says="writeback_cache")
        self.assertNotIn(point, harness.mounts())
        self.mount(image).unmount()  # nothing was left locked

    def test_more_partitions_than_anybody_has(self):
        image, twin = self.partitioned("label: gpt\ntable-length: 512\n" + "size=4K\n" * 257, 300 * MiB)
        point = self.path("point")
        os.mkdir(point)
        self.refused(QCOWFS, "-o", "partitions", image, point, names=[image], says="257 partitions, and at most 256")
        refusal = self.refused(QCOWFS, "-o", "partition=300", image, point, names=[image],
                               says="only 1, 2, 3, .* and more$")
        self.assertLess(len(refusal.stderr), 500)
        daemon = self.mount(image, "partition=257")
        self.assertEqual(os.path.getsize(self.file(daemon, 257)), self.table(twin)[257][1])
        daemon.unmount()

    def test_partitions_that_overlap(self):
        image, twin = self.partitioned("label: dos\nsize=8M\nsize=8M\n")
        daemon = self.mount(image)
        first_sector = self.table(twin)[2][0] // 512
        harness.write_at(daemon.disk, 446 + 16 + 8, (first_sector - 1).to_bytes(4, "little"))
        daemon.unmount()
        point = self.path("point")
        os.mkdir(point)
        self.refused(QCOWFS, "-o", "partitions", image, point, names=[image], says="1, 2 overlap")
        for options in (["partitions", "ro"], ["partition=2"]):
            daemon = self.mount(image, *options)
            self.assertEqual(os.path.getsize(self.file(daemon, 2)), 8 * MiB)
            daemon.unmount()


class FileSystems(PartitionCase):
    SCRIPT = "label: gpt\nsize=16M\nsize=4M\n"

    def test_a_file_system_on_a_loop_device(self):
        image, _ = self.partitioned(self.SCRIPT)
        daemon = self.mount(image, "partitions")
        run("mkfs.ext4", "-q", self.file(daemon, 1))
        folder = self.loop_mount(self.loop_device(self.file(daemon, 1)))
        tree = os.path.dirname(os.path.abspath(__file__))
        run("cp", "-r", tree, folder)
        run("diff", "-r", tree, os.path.join(folder, os.path.basename(tree)))
        run("umount", folder)
        for device in run("losetup", "-j", self.file(daemon, 1), "-n", "-O", "NAME").stdout.split():
            self.detach(device)
        run("e2fsck", "-f", "-n", self.file(daemon, 1))
        daemon.unmount()
        self.check(image)


if __name__ == "__main__":
    harness.main()
