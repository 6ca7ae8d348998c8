#!/usr/bin/env -S python3 -B
"""Space: holes punched and found, disks grown and shrunk, blocks counted, rewriting that stays compressed."""

import errno
import os
import random

import content
import harness
from harness import GiB, KiB, MiB, run, scaled

CLUSTER = 64 * KiB


def data_map(path):
    """[(start, end)] of what lseek calls data."""
    size = os.path.getsize(path)
    found = []
    fd = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            if not start < at <= size:
                raise AssertionError(f"data from {start} to {at} of {size}")
            found.append((start, at))
    finally:
        os.close(fd)
    return found


class Holes(harness.MountCase):
    def both(self, size, fill, **options):
        image = self.create(size, **options)
        twin = self.twin(size)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 0, fill)
        return image, twin, daemon

    def test_punched_and_zeroed_ranges_are_exact(self):
        size = 8 * MiB
        image, twin, daemon = self.both(size, content.text(size, 1))
        source = random.Random("holes")
        ranges = [(0, 1), (CLUSTER - 1, 2), (CLUSTER, CLUSTER), (3 * CLUSTER + 1, 2 * CLUSTER - 2),
                  (size - 1, 1),
                  (10 * CLUSTER - 512, 1024), (20 * CLUSTER + 4096, 4096), (30 * CLUSTER, 10 * CLUSTER)]
        ranges += [(source.randrange(size - 300000), source.randrange(1, 300000))
                   for _ in range(scaled(100, 30))]
        for number, (offset, length) in enumerate(ranges):
            clear = harness.punch if number % 2 else harness.zero_range
            for disk in (daemon.disk, twin):
                clear(disk, offset, length)
                if number % 3 == 0:  # and written again beside and inside
                    harness.write_at(disk, offset + length // 3, content.text(length // 4 + 1, number))
            start = max(0, offset - 70000)
            self.assertEqual(harness.read_at(daemon.disk, start, length + 140000),
                             harness.read_at(twin, start, length + 140000), (offset, length))
        for disk in (daemon.disk, twin):
            os.truncate(disk, size)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_allocation_changes_no_byte(self):
        size = 4 * MiB
        image, twin, daemon = self.both(size, content.mixed(size // 2, 1))
        for disk in (daemon.disk, twin):
            harness.fallocate(disk, 0, 100, 3 * MiB)
            harness.fallocate(disk, harness.FALLOC_FL_KEEP_SIZE, 3 * MiB, 4 * MiB)
            self.assertEqual(os.path.getsize(disk), size)
            harness.fallocate(disk, 0, 3 * MiB, 2 * MiB)  # and grows the disk
            self.assertEqual(os.path.getsize(disk), 5 * MiB)
            harness.zero_range(disk, 5 * MiB - 1000, 2000, keep_size=False)
            self.assertEqual(os.path.getsize(disk), 5 * MiB + 1000)
            os.truncate(disk, 6 * MiB)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_other_kinds_of_allocation_are_refused(self):
        image, _, daemon = self.both(MiB, content.text(MiB, 1))
        with self.assertRaises(OSError) as caught:
            harness.fallocate(daemon.disk, harness.FALLOC_FL_COLLAPSE_RANGE, 0, CLUSTER)
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        self.assertEqual(harness.read_at(daemon.disk, 0, MiB), content.text(MiB, 1))
        daemon.unmount()
        self.check(image)

    def test_holes_are_cheap(self):
        size = scaled(64 * GiB, 8 * GiB)
        image, _, daemon = self.both(size, content.text(8 * MiB, 1))
        harness.fsync(daemon.disk)
        before = os.stat(image).st_size
        harness.zero_range(daemon.disk, 9 * MiB + 1, size - 10 * MiB)
        harness.punch(daemon.disk, 8 * MiB - 1, size - 9 * MiB)
        daemon.unmount(timeout=60)
        self.assertLess(os.stat(image).st_size, before + 4 * MiB)
        self.check(image)

    def test_punched_space_is_used_again(self):
        size = 32 * MiB
        image, _, daemon = self.both(size, content.noise(size, 1))
        harness.fsync(daemon.disk)
        self.assertGreaterEqual(os.stat(daemon.disk).st_blocks * 512, size)
        harness.punch(daemon.disk, MiB, size - 2 * MiB)
        daemon.unmount()
        full = os.path.getsize(image)
        self.assertEqual(self.check(image)["allocated-clusters"], 2 * MiB // CLUSTER)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 2 * MiB, content.noise(size - 4 * MiB, 2))
        daemon.unmount()
        self.assertLess(os.path.getsize(image), full + 2 * MiB)
        self.assertEqual(self.check(image)["allocated-clusters"], (size - 2 * MiB) // CLUSTER)

    def test_data_is_never_called_a_hole(self):
        size = 64 * MiB
        image = self.create(size)
        daemon = self.mount(image)
        self.assertEqual(data_map(daemon.disk), [])
        source = random.Random("extents")
        written = sorted((source.randrange(size - 200000), source.randrange(1, 200000)) for _ in range(40))
        for offset, length in written:
            harness.write_at(daemon.disk, offset, b"\1" * length)
        for synced in (False, True):
            if synced:
                harness.fsync(daemon.disk)
            self.assert_covers(data_map(daemon.disk), written)
        holes = size - sum(end - start for start, end in data_map(daemon.disk))
        touched = {at // CLUSTER for offset, length in written for at in (offset, offset + length - 1)} | {
            at for offset, length in written for at in range(offset // CLUSTER, (offset + length) // CLUSTER)}
        self.assertGreaterEqual(holes, size - len(touched) * CLUSTER, "what was never written is called data")
        daemon.unmount()
        daemon = self.mount(image, arguments=["-r"])
        self.assert_covers(data_map(daemon.disk), written)
        fd = os.open(daemon.disk, os.O_RDONLY)
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with self.assertRaises(OSError) as caught:
                os.lseek(fd, size, whence)
            self.assertEqual(caught.exception.errno, errno.ENXIO)
        os.close(fd)
        daemon.unmount()

    def assert_covers(self, data, written):
        for offset, length in written:
            self.assertTrue(any(start <= offset and offset + length <= end for start, end in merged(data)),
                            f"{offset}+{length} lies in a hole: {data}")


def merged(ranges):
    result = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


class Resize(harness.MountCase):
    def test_truncate_resizes_the_image(self):
        size = 10 * MiB
        image = self.create(size)
        twin = self.twin(size)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 0, content.mixed(size, 1))
        for new_size in (20 * MiB, 15 * MiB + 512, 3 * MiB + 512, 9 * MiB, 512, 0, 2 * MiB, 700 * MiB,
                         8 * MiB):
            for disk in (daemon.disk, twin):
                os.truncate(disk, new_size)
                self.assertEqual(os.path.getsize(disk), new_size)
                if new_size:
                    harness.write_at(disk, new_size - 300, content.text(300, new_size))
            self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)
        self.assertEqual(self.info(image)["virtual-size"], 8 * MiB)

    def test_each_size_survives_a_remount(self):
        image = self.create(MiB)
        twin = self.twin(MiB)
        for new_size in (5 * MiB, 600 * MiB, 3 * MiB + 512, 0, 65536):
            daemon = self.mount(image)
            for disk in (daemon.disk, twin):
                os.truncate(disk, new_size)
            daemon.unmount()
            self.judge(image, twin)
            self.assertEqual(self.info(image)["virtual-size"], new_size)
            daemon = self.mount(image)
            self.assertEqual(os.path.getsize(daemon.disk), new_size)
            for disk in (daemon.disk, twin):
                harness.write_at(disk, new_size // 2 // 512 * 512, content.text(512, new_size))
            daemon.unmount()
            self.judge(image, twin)

    def test_growing_shows_zeros_where_old_data_was(self):
        size = 4 * MiB
        image = self.create(size)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, b"\xff" * size)
        os.truncate(daemon.disk, MiB + 1)
        os.truncate(daemon.disk, size)
        self.assertEqual(harness.read_at(daemon.disk, MiB + 1, size), bytes(size - MiB - 1))
        self.assertEqual(harness.read_at(daemon.disk, 0, MiB + 1), b"\xff" * (MiB + 1))
        daemon.unmount()
        self.check(image)

    def test_sizes_that_are_no_multiple_of_512(self):
        for size in (1, 511, 513, 100001, 3 * MiB + 7):
            with self.subTest(size=size):
                stored = (size + 511) // 512 * 512
                source = content.write_file(self.path(f"source-{size}"), content.text(size, size))
                image = self.create(MiB, name=f"disk-{size}.qcow2")
                daemon = self.mount(image)
                run("cp", source, daemon.disk)
                self.assertEqual(os.path.getsize(daemon.disk), size)
                self.assert_same_bytes(daemon.disk, source)
                daemon.unmount()
                self.assertEqual(self.info(image)["virtual-size"], stored)
                os.truncate(source, stored)  # the rest of the last sector reads as zeros
                self.judge(image, source)

    def test_a_size_that_cannot_be(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, content.text(MiB, 1))
        with self.assertRaises(OSError) as caught:
            os.truncate(daemon.disk, (1 << 63) - 1)
        self.assertIn(caught.exception.errno, (errno.EFBIG, errno.EINVAL))
        self.assertEqual(os.path.getsize(daemon.disk), MiB)
        self.assertEqual(harness.read_at(daemon.disk, 0, MiB), content.text(MiB, 1))
        daemon.unmount()
        self.check(image)


class Attributes(harness.MountCase):
    def test_the_block_size_is_the_cluster_size(self):
        for cluster_size in (512, 4 * KiB, CLUSTER, 2 * MiB):
            image = self.create(8 * MiB, "--cluster-size", cluster_size, name=f"{cluster_size}.qcow2")
            daemon = self.mount(image)
            self.assertEqual(os.stat(daemon.disk).st_blksize, cluster_size)
            daemon.unmount()

    def test_blocks_tell_the_space_really_used(self):
        size = GiB
        image = self.create(size)
        daemon = self.mount(image)
        self.assertEqual(os.path.getsize(daemon.disk), size)
        self.assertLess(os.stat(daemon.disk).st_blocks * 512, 2 * MiB)
        harness.write_at(daemon.disk, 0, content.text(16 * MiB, 1))
        harness.fsync(daemon.disk)
        used = os.stat(daemon.disk).st_blocks * 512
        self.assertGreater(used, MiB)
        self.assertLess(used, 12 * MiB, "compressed text takes less than it is long")
        daemon.unmount()

    def test_statfs(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        figures = os.statvfs(daemon.disk)
        host = os.statvfs(self.folder)
        self.assertGreater(figures.f_blocks, 0)
        self.assertLessEqual(figures.f_bavail * figures.f_frsize, host.f_blocks * host.f_frsize * 4)
        self.assertGreater(figures.f_bavail, 0, "tools refuse to copy to a file system that is full")
        daemon.unmount()


class Rewrite(harness.MountCase):
    """The reason to be: what is overwritten is stored compressed again, and the old space is used again."""

    SIZE = scaled(256 * MiB, 24 * MiB)

    def rewrite(self, *create_options, block="1M"):
        image = self.create(self.SIZE, *create_options)
        sizes = []
        for number in range(3):
            source = content.write_file(self.path("source.img"), content.text(self.SIZE, number))
            daemon = self.mount(image)
            run("dd", f"if={source}", f"of={daemon.disk}", f"bs={block}", "conv=notrunc,fsync", timeout=300)
            daemon.unmount()
            figures = self.judge(image, source)
            compressed = figures["compressed-clusters"] / figures["allocated-clusters"]
            self.assertGreaterEqual(compressed, 0.95, figures)
            self.assertGreaterEqual(figures["allocated-clusters"], 0.99 * figures["total-clusters"])
            sizes.append(os.stat(image).st_blocks * 512)
        self.assertLess(sizes[1], 2.1 * sizes[0] + 4 * MiB)  # the old is kept until the new is durable,
        self.assertLess(sizes[2], 1.05 * sizes[1] + 4 * MiB, f"old space is not used again: {sizes}")
        self.assertLess(sizes[2], 0.6 * self.SIZE)

    def test_zlib(self):
        self.rewrite()

    def test_zstd(self):
        self.rewrite("--compression", "zstd")

    def test_small_writes(self):
        self.rewrite(block="4k")

    def test_without_a_remount_between(self):
        image = self.create(self.SIZE)
        daemon = self.mount(image)
        for number in range(3):
            source = content.write_file(self.path("source.img"), content.text(self.SIZE, number))
            run("cp", source, daemon.disk, timeout=300)
        daemon.unmount()
        figures = self.judge(image, source)
        self.assertGreaterEqual(figures["compressed-clusters"], 0.95 * figures["allocated-clusters"], figures)

    def test_zeros_free_what_they_overwrite(self):
        image = self.create(self.SIZE)
        source = content.write_file(self.path("source.img"), content.text(self.SIZE, 1))
        zeros = self.twin(self.SIZE)
        sizes = []
        for path in (source, zeros, source):
            daemon = self.mount(image)
            run("dd", f"if={path}", f"of={daemon.disk}", "bs=1M", "conv=notrunc,fsync")
            daemon.unmount()
            figures = self.judge(image, path)
            self.assertEqual(figures.get("allocated-clusters", 0) == 0, path == zeros)
            sizes.append(os.path.getsize(image))
        self.assertLess(max(sizes), 1.05 * sizes[0] + 4 * MiB, sizes)

    def test_noise_is_stored_as_it_is(self):
        size = scaled(32 * MiB, 8 * MiB)
        image = self.create(size)
        daemon = self.mount(image)
        source = content.write_file(self.path("source.img"), content.noise(size, 1))
        run("dd", f"if={source}", f"of={daemon.disk}", "bs=1M", "conv=notrunc")
        daemon.unmount()
        figures = self.judge(image, source)
        self.assertEqual(figures.get("compressed-clusters", 0), 0)
        self.assertLess(os.stat(image).st_blocks * 512, size * 1.05 + MiB)


if __name__ == "__main__":
    harness.main()
