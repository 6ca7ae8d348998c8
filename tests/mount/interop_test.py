#!/usr/bin/env -S python3 -B
"""Images that QEMU made are read byte for byte, written and judged clean; images of ours are written by QEMU
and then by us again."""

import os
import random
import struct

import content
import harness
from harness import KiB, MiB, run, scaled

CLUSTER_SIZES = scaled([1 << bits for bits in range(9, 22)], [512, 4 * KiB, 64 * KiB, 2 * MiB])
REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64]


def disk_size(cluster_size):
    return 2 * MiB if cluster_size <= KiB else scaled(12 * MiB, 6 * MiB)


class MadeByQemu(harness.MountCase):
    def read_write_judge(self, image, raw, seed=0):
        """`raw` is what the image holds, and from here on its twin."""
        size = os.path.getsize(raw)
        source = random.Random(f"interop {seed}")
        for _ in range(2):
            daemon = self.mount(image)
            self.assertEqual(os.path.getsize(daemon.disk), size)
            self.assert_same_bytes(daemon.disk, raw)
            for number in range(scaled(40, 15)):
                length = int(2 ** source.uniform(0, 17))
                offset = source.randrange(size - length)
                data = content.mixed(length, (seed, source.random()), 30000)
                for disk in (daemon.disk, raw):
                    if number % 8 == 7:
                        harness.punch(disk, offset, length)
                    else:
                        harness.write_at(disk, offset, data)
            self.assert_same_bytes(daemon.disk, raw)
            daemon.unmount()
            self.judge(image, raw)

    def convert(self, name, options, size, compress=True):
        image = self.path(f"{name}.qcow2")
        raw = content.write_file(self.path(f"{name}.raw"), content.mixed(size, name))
        run("qemu-img", "convert", *(["-c"] if compress else []), "-O", "qcow2", "-o", options, raw, image)
        return image, raw

    def test_every_cluster_size_and_compression(self):
        for cluster_size in CLUSTER_SIZES:
            for compression in ("zlib", "zstd"):
                with self.subTest(cluster_size=cluster_size, compression=compression):
                    image, raw = self.convert(f"{cluster_size}-{compression}",
                                              f"cluster_size={cluster_size},compression_type={compression}",
                                              disk_size(cluster_size))
                    self.read_write_judge(image, raw, cluster_size)

    def test_every_refcount_width(self):
        for bits in REFCOUNT_BITS:
            for cluster_size in (4 * KiB, 64 * KiB):
                for compress in (True, False):
                    with self.subTest(bits=bits, cluster_size=cluster_size, compress=compress):
                        image, raw = self.convert(f"{bits}-{cluster_size}-{compress}",
                                                  f"refcount_bits={bits},cluster_size={cluster_size}",
                                                  disk_size(cluster_size), compress)
                        self.read_write_judge(image, raw, bits)
                        self.assertEqual(self.info(image)["format-specific"]["data"]["refcount-bits"], bits)

    def test_version_2(self):
        for cluster_size in (512, 4 * KiB, 64 * KiB, 2 * MiB):
            with self.subTest(cluster_size=cluster_size):
                image, raw = self.convert(f"v2-{cluster_size}", f"compat=0.10,cluster_size={cluster_size}",
                                          disk_size(cluster_size))
                self.read_write_judge(image, raw, cluster_size)
                self.assertEqual(self.info(image)["format-specific"]["data"]["compat"], "0.10")

    def test_not_compressed(self):
        for cluster_size in (512, 64 * KiB, 2 * MiB):
            with self.subTest(cluster_size=cluster_size):
                image, raw = self.convert(f"plain-{cluster_size}", f"cluster_size={cluster_size}",
                                          disk_size(cluster_size), compress=False)
                self.read_write_judge(image, raw, cluster_size)

    def test_created_and_preallocated(self):
        for options in ("cluster_size=64k", "compat=0.10", "preallocation=metadata", "preallocation=falloc",
                        "preallocation=full", "lazy_refcounts=on", "cluster_size=1k,preallocation=metadata"):
            with self.subTest(options=options):
                name = options.replace(",", "-")
                image = self.create_by_qemu(4 * MiB, options, f"{name}.qcow2")
                self.read_write_judge(image, self.twin(4 * MiB, f"{name}.raw"))

    def test_zero_clusters_and_discarded_ones(self):
        image, raw = self.convert("zeros", "cluster_size=64k", 8 * MiB)
        for command, offset, length in [("write -z", 65536, 131072), ("discard", MiB, MiB),
                                        ("write -z -u", 3 * MiB, MiB), ("write -z", 100 * 512, 512 * 300)]:
            run("qemu-io", "-c", f"{command} {offset} {length}", image)
            harness.zero_range(raw, offset, length)
        self.read_write_judge(image, raw)

    def test_growing_tables(self):
        """A small L1 table and one refcount block, outgrown."""
        image = self.create_by_qemu(MiB, "cluster_size=512")
        twin = self.twin(MiB)
        daemon = self.mount(image)
        size = scaled(40 * MiB, 12 * MiB)
        for disk in (daemon.disk, twin):
            os.truncate(disk, size)
            for offset in range(0, size, size // 8):
                harness.write_at(disk, offset, content.noise(300000, offset))
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_a_file_that_ends_early(self):
        """The last compressed cluster of a converted image need not fill its sector."""
        image, raw = self.convert("early", "cluster_size=64k", MiB)
        figures = self.check(image)
        self.assertGreater(figures["compressed-clusters"], 0)
        self.assertNotEqual(os.path.getsize(image) % (64 * KiB), 0, "QEMU pads now: this test tests nothing")
        self.read_write_judge(image, raw)

    def test_unknown_extensions_are_kept(self):
        image = self.create_by_qemu(4 * MiB, "cluster_size=64k")
        twin = self.twin(4 * MiB)
        payload = b"of a program yet to be written"
        add_extension(image, 0x12345678, payload)
        before = extensions(image)
        self.assertIn((0x12345678, payload), before)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 0, content.mixed(3 * MiB, 1))
            os.truncate(disk, 900 * MiB)
        daemon.unmount()
        self.judge(image, twin)
        self.assertEqual(extensions(image), before)

    def test_unknown_autoclear_bits_are_cleared_by_the_first_write(self):
        image = self.create_by_qemu(4 * MiB)
        patch(image, 88, struct.pack(">Q", 1 << 40))
        self.mount(image, arguments=["-r"]).unmount()
        self.assertEqual(struct.unpack(">Q", harness.read_at(image, 88, 8))[0], 1 << 40)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, b"x")
        daemon.unmount()
        self.assertEqual(struct.unpack(">Q", harness.read_at(image, 88, 8))[0], 0)
        self.check(image)

    def test_snapshots_can_be_read(self):
        image, raw = self.convert("snapshot", "cluster_size=64k", 4 * MiB)
        run("qemu-img", "snapshot", "-c", "one", image)
        daemon = self.mount(image, arguments=["-r"])
        self.assert_same_bytes(daemon.disk, raw)
        daemon.unmount()
        self.check(image)


class MadeByUs(harness.MountCase):
    def test_qemu_writes_and_we_write_again(self):
        for cluster_size in (512, 4 * KiB, 64 * KiB, 2 * MiB):
            for compression in ("zlib", "zstd"):
                with self.subTest(cluster_size=cluster_size, compression=compression):
                    self.in_turn(cluster_size, compression)

    def in_turn(self, cluster_size, compression):
        size = disk_size(cluster_size)
        name = f"{cluster_size}-{compression}"
        image = self.create(size, "--cluster-size", cluster_size, "--compression", compression,
                            name=f"{name}.qcow2")
        twin = self.twin(size, f"{name}.raw")
        source = random.Random(name)
        for turn in range(3):
            daemon = self.mount(image)
            self.assert_same_bytes(daemon.disk, twin)
            for number in range(scaled(30, 12)):
                length = int(2 ** source.uniform(0, 18))
                offset = source.randrange(size - length)
                for disk in (daemon.disk, twin):
                    harness.write_at(disk, offset, content.mixed(length, (name, turn, number), 50000))
            daemon.unmount()
            self.judge(image, twin)

            commands = []
            for number in range(20):
                length = int(2 ** source.uniform(0, 17))
                offset = source.randrange(size - length)
                pattern = source.randrange(1, 256)
                if number % 5 == 4:
                    offset, length = offset // 512 * 512, (length + 511) // 512 * 512
                    length = min(length, size - offset)
                    commands += ["-c", f"write -z {offset} {length}"]
                    pattern = 0
                else:
                    commands += ["-c", f"write -P {pattern} {offset} {length}"]
                harness.write_at(twin, offset, bytes([pattern]) * length)
            done = run("qemu-io", *commands, image)
            self.assertNotIn("failed", done.stdout)
            self.judge(image, twin)

    def test_qemu_converts_and_resizes(self):
        image = self.create(4 * MiB)
        twin = content.write_file(self.path("twin.raw"), content.mixed(4 * MiB, 1))
        daemon = self.mount(image)
        run("cp", twin, daemon.disk)
        daemon.unmount()
        run("qemu-img", "resize", "-q", image, "900M")
        run("qemu-img", "resize", "-q", "--shrink", image, "3M")
        for path in (twin,):
            os.truncate(path, 3 * MiB)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 100, content.mixed(2 * MiB, 2))
        daemon.unmount()
        self.judge(image, twin)
        run("qemu-img", "convert", "-c", "-O", "qcow2", image, self.path("copy.qcow2"))
        self.judge(self.path("copy.qcow2"), twin)

    def test_qemu_repairs_nothing(self):
        image = self.create(8 * MiB)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, content.mixed(8 * MiB, 1))
        harness.write_at(daemon.disk, 1000, content.mixed(6 * MiB, 2))
        daemon.unmount()
        done = run("qemu-img", "check", "-r", "all", "-f", "qcow2", image)
        self.assertIn("No errors were found", done.stdout)
        self.assertNotIn("Repair", done.stdout + done.stderr)


def patch(image, offset, data):
    with open(image, "r+b") as file:
        file.seek(offset)
        file.write(data)


def extensions(image):
    """[(type, data)] of the header extensions."""
    with open(image, "rb") as file:
        head = file.read(64 * KiB)
    at = struct.unpack_from(">I", head, 100)[0]
    found = []
    while True:
        kind, length = struct.unpack_from(">II", head, at)
        if kind == 0:
            return found
        found.append((kind, head[at + 8:at + 8 + length]))
        at += 8 + (length + 7) // 8 * 8


def add_extension(image, kind, data):
    """Puts one at the end of those that are there."""
    area = b""
    for known, known_data in [*extensions(image), (kind, data)]:
        area += struct.pack(">II", known, len(known_data)) + known_data + bytes(-len(known_data) % 8)
    patch(image, struct.unpack(">I", harness.read_at(image, 100, 4))[0], area + bytes(8))


if __name__ == "__main__":
    harness.main()
