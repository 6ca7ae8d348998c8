#!/usr/bin/env -S python3 -B
"""Bytes in and out by every way the kernel has: each result equals a raw twin that was treated the same."""

import errno
import mmap
import os
import random
import threading

import content
import harness
from harness import GiB, KiB, MiB, run, scaled

DISK_SIZE = scaled(64 * MiB, 12 * MiB)


class Copy(harness.MountCase):
    """cp over an existing disk: O_TRUNC, then the new content and nothing else."""

    def sparse_source(self, name, seed):
        extents = [(offset, content.text(20000, (seed, offset)))
                   for offset in range(5000 * seed, DISK_SIZE - MiB, 3 * MiB)]
        return content.write_sparse_file(self.path(name), DISK_SIZE, extents)

    def dense_source(self, name, seed, size=DISK_SIZE):
        return content.write_file(self.path(name), content.mixed(size, seed))

    def copy_twice(self, first, second, *options):
        image = self.create(DISK_SIZE)
        daemon = self.mount(image)
        for source in (first, second):
            run("cp", *options, source, daemon.disk)
            self.assertEqual(os.path.getsize(daemon.disk), os.path.getsize(source))
            self.assert_same_bytes(daemon.disk, source)
        daemon.unmount()
        self.judge(image, second)

    def test_dense_over_dense(self):
        self.copy_twice(self.dense_source("a.img", 1), self.dense_source("b.img", 2))

    def test_sparse_over_dense_leaves_nothing(self):
        self.copy_twice(self.dense_source("a.img", 1), self.sparse_source("b.img", 2))

    def test_sparse_over_sparse_leaves_nothing(self):
        self.copy_twice(self.sparse_source("a.img", 1), self.sparse_source("b.img", 2))

    def test_sparse_always(self):
        self.copy_twice(self.dense_source("a.img", 1), self.dense_source("b.img", 2), "--sparse=always")

    def test_sparse_never(self):
        self.copy_twice(self.dense_source("a.img", 1), self.sparse_source("b.img", 2), "--sparse=never")

    def test_smaller_and_larger_sources_resize_the_disk(self):
        self.copy_twice(self.dense_source("a.img", 1, 5 * MiB),
                        self.dense_source("b.img", 2, DISK_SIZE + 3 * MiB + 512))

    def test_a_large_copy_does_not_take_minutes(self):
        size = scaled(256 * MiB, 24 * MiB)
        source = self.dense_source("a.img", 1, size)
        image = self.create(size)
        daemon = self.mount(image)
        for options in ([], ["--sparse=always"]):
            done = run("cp", *options, source, daemon.disk)
            if not harness.SANITIZED:
                self.assertLess(done.seconds, 60)
        daemon.unmount()
        self.judge(image, source)

    def test_copies_out_of_the_mount(self):
        source = self.sparse_source("a.img", 1)
        image = self.create(DISK_SIZE)
        daemon = self.mount(image)
        run("cp", source, daemon.disk)
        run("cp", daemon.disk, self.path("out.img"))
        self.assert_same_bytes(self.path("out.img"), source)
        copied = os.stat(self.path("out.img")).st_blocks * 512
        self.assertLess(copied, DISK_SIZE // 2, "holes were copied as zeros")
        daemon.unmount()


class Dd(harness.MountCase):
    def test_every_block_size(self):
        source = content.write_file(self.path("source.img"), content.mixed(8 * MiB, 1))
        image = self.create(DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(image)
        rows = [  # bs, count, seek in bytes, flags
            ("512", scaled(6000, 1500), 0, []),
            ("512", 300, 3 * 65536 - 1024, []),
            ("4k", 700, 4096 * 5, []),
            ("100k", 40, 12345, ["oflag=seek_bytes"]),
            ("1M", 7, 1, ["oflag=seek_bytes"]),
            ("1M", 8, 0, []),
            ("777", 3000, 99999, ["oflag=seek_bytes"]),
            ("1", 100, 65535, ["oflag=seek_bytes"]),
            ("64k", 50, MiB, ["oflag=seek_bytes,dsync"]),
        ]
        for block, count, seek, flags in rows:
            with self.subTest(block=block, seek=seek, flags=flags):
                place = [f"seek={seek}"] if flags else ["oflag=seek_bytes", f"seek={seek}"]
                for disk in (daemon.disk, twin):
                    run("dd", f"if={source}", f"of={disk}", f"bs={block}", f"count={count}", "conv=notrunc",
                        *place, *flags)
                self.assert_same_bytes(daemon.disk, twin)
        run("dd", f"if={source}", f"of={daemon.disk}", "bs=100k", "conv=notrunc,fsync")
        run("dd", f"if={source}", f"of={twin}", "bs=100k", "conv=notrunc,fsync")
        daemon.unmount()
        self.judge(image, twin)

    def test_overwriting_pieces_of_every_cluster_size(self):
        for cluster_size in (512, 4 * KiB, 64 * KiB, 2 * MiB):
            for compression in ("zlib", "zstd"):
                with self.subTest(cluster_size=cluster_size, compression=compression):
                    name = f"{cluster_size}-{compression}"
                    size = min(DISK_SIZE, 2 * MiB if cluster_size == 512 else 16 * MiB)
                    image = self.create(size, "--cluster-size", cluster_size, "--compression", compression,
                                        name=f"{name}.qcow2")
                    twin = self.twin(size, f"{name}.raw")
                    self.random_writes(image, twin, size, seed=cluster_size)
                    self.judge(image, twin)

    def random_writes(self, image, twin, size, seed):
        source = random.Random(seed)
        for _ in range(2):  # the second time over what is there
            daemon = self.mount(image)
            self.assert_same_bytes(daemon.disk, twin)
            for number in range(scaled(150, 40)):
                length = int(2 ** source.uniform(0, 18))
                offset = source.randrange(size - length)
                data = content.mixed(length, (seed, number), 50000)
                for disk in (daemon.disk, twin):
                    harness.write_at(disk, offset, data)
                if source.random() < 0.05:
                    harness.fsync(daemon.disk)
            self.assert_same_bytes(daemon.disk, twin)
            daemon.unmount()


class Direct(harness.MountCase):
    """The caller's own O_DIRECT."""

    def test_direct_writes(self):
        source = content.write_file(self.path("source.img"), content.mixed(6 * MiB, 1))
        image = self.create(DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(image)
        for block, seek in [("4k", 0), ("512", 1000), ("64k", 3), ("1M", 1), ("100k", 7)]:
            for disk, flags in ((daemon.disk, ["oflag=direct"]), (twin, [])):
                run("dd", f"if={source}", f"of={disk}", f"bs={block}", f"seek={seek}", "count=1200",
                    "conv=notrunc", *flags)
        self.assert_same_bytes(daemon.disk, twin)
        run("dd", f"if={daemon.disk}", f"of={self.path('out')}", "bs=1M", "iflag=direct")
        self.assert_same_bytes(self.path("out"), twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_direct_and_buffered_see_each_other(self):
        image = self.create(4 * MiB)
        daemon = self.mount(image)
        memory = mmap.mmap(-1, 64 * KiB)
        direct = os.open(daemon.disk, os.O_RDWR | os.O_DIRECT)
        buffered = os.open(daemon.disk, os.O_RDWR)
        try:
            for number in range(20):
                offset = number * 64 * KiB
                data = content.text(64 * KiB, number)
                memory[:] = data
                os.pwritev(direct, [memory], offset)
                self.assertEqual(os.pread(buffered, 64 * KiB, offset), data)
                data = content.text(64 * KiB, -number - 1)
                os.pwrite(buffered, data, offset)
                os.fsync(buffered)
                os.preadv(direct, [memory], offset)
                self.assertEqual(memory[:], data)
        finally:
            os.close(direct)
            os.close(buffered)
            memory.close()
        daemon.unmount()
        self.check(image)


class Mmap(harness.MountCase):
    def test_mapped_writes_arrive(self):
        image = self.create(DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 0, content.mixed(4 * MiB, 1))
            source = random.Random("places")
            with open(disk, "r+b") as file, mmap.mmap(file.fileno(), DISK_SIZE) as memory:
                for number in range(200):
                    length = source.randrange(1, 20000)
                    offset = source.randrange(DISK_SIZE - length)
                    memory[offset:offset + length] = content.text(length, number)
                memory.flush()
        self.assert_same_bytes(daemon.disk, twin)
        with open(daemon.disk, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            self.assertEqual(memory[MiB:2 * MiB], harness.read_at(twin, MiB, MiB))
        daemon.unmount()
        self.judge(image, twin)


class Concurrent(harness.MountCase):
    def test_writers_beside_each_other(self):
        writers = 4
        share = DISK_SIZE // writers
        image = self.create(DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(image)
        failures = []

        def write_share(number):
            """Two writers take turns in the pieces of two shares: neighbours in clusters."""
            source = random.Random(number)
            try:
                for round_number in range(scaled(300, 60)):
                    piece = source.randrange(share // 5000)
                    offset = (number // 2) * 2 * share + (2 * piece + number % 2) * 5000
                    data = content.text(5000, (number, round_number))
                    for disk in (daemon.disk, twin):
                        harness.write_at(disk, offset, data)
                    if harness.read_at(daemon.disk, offset, 5000) != data:
                        failures.append(f"writer {number} does not read what it wrote at {offset}")
                    if source.random() < 0.03:
                        harness.fsync(daemon.disk)
            except OSError as error:
                failures.append(f"writer {number}: {error}")

        threads = [threading.Thread(target=write_share, args=[number]) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)


class Edges(harness.MountCase):
    def test_writes_past_the_end_grow_the_disk(self):
        image = self.create(MiB)
        twin = self.twin(MiB)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, MiB - 100, content.text(1000, 1))  # across the end
            harness.write_at(disk, 5 * MiB, content.text(512, 2))  # beyond it
            with open(disk, "ab") as file:
                file.write(content.text(3 * 65536, 3))
        self.assertEqual(os.path.getsize(daemon.disk), 5 * MiB + 512 + 3 * 65536)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)
        self.assertEqual(self.info(image)["virtual-size"], 5 * MiB + 512 + 3 * 65536)

    def test_reads_at_the_end_are_short(self):
        image = self.create(100 * KiB)
        daemon = self.mount(image)
        self.assertEqual(harness.read_at(daemon.disk, 100 * KiB - 10, 100), bytes(10))
        self.assertEqual(harness.read_at(daemon.disk, 100 * KiB, 100), b"")
        self.assertEqual(harness.read_at(daemon.disk, GiB, 100), b"")
        daemon.unmount()

    def test_a_huge_disk(self):
        size = 4 << 40
        image = self.create(size)
        daemon = self.mount(image)
        data = content.text(100000, 1)
        for offset in (0, size // 3, size - 100000):
            harness.write_at(daemon.disk, offset, data)
            self.assertEqual(harness.read_at(daemon.disk, offset, 100000), data)
        self.assertEqual(os.path.getsize(daemon.disk), size)
        daemon.unmount()
        self.check(image)
        daemon = self.mount(image, arguments=["-r"])
        self.assertEqual(harness.read_at(daemon.disk, size - 100000, 100000), data)
        daemon.unmount()

    def test_the_folder_holds_the_disk_and_nothing_else(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        self.assertEqual(os.listdir(daemon.point), [os.path.basename(daemon.disk)])
        for attempt in (lambda: open(os.path.join(daemon.point, "other"), "wb"),
                        lambda: os.unlink(daemon.disk),
                        lambda: os.mkdir(os.path.join(daemon.point, "folder")),
                        lambda: os.rename(daemon.disk, daemon.disk + "2")):
            with self.assertRaises(OSError) as caught:
                attempt()
            self.assertIn(caught.exception.errno, (errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EROFS,
                                                   errno.EOPNOTSUPP))
        with self.assertRaises(FileNotFoundError):
            os.stat(os.path.join(daemon.point, "missing"))
        daemon.unmount()


if __name__ == "__main__":
    harness.main()
