#!/usr/bin/env -S python3 -B
"""Images that are not served: a non-zero exit status, one line that names the file and the reason, not a byte
changed, nothing mounted, no lock left behind."""

import os
import struct

import content
import harness
from harness import KiB, MiB, QCOWFS, run

INCOMPATIBLE, COMPATIBLE, AUTOCLEAR = 72, 80, 88
DIRTY, CORRUPT = 1 << 0, 1 << 1


class Refused(harness.MountCase):
    def must_refuse(self, image, says, read_only_too=True):
        """A writable mount is refused, over a folder and over a file, and so is a read-only one."""
        before = digest(image)
        folder = self.path(f"folder-{self.next_number()}")
        os.mkdir(folder)
        file = content.write_file(self.path(f"file-{self.next_number()}"), b"")
        for options in [[], ["-r"]] if read_only_too else [[]]:
            for point in (folder, file):
                self.refused(QCOWFS, *options, image, point, names=[image], says=says)
                self.assertNotIn(point, harness.mounts())
        self.assertEqual(digest(image), before, "the image was changed")
        self.assertIsNone(harness.find_daemon(image))

    def patched(self, name, offset, data, options="cluster_size=64k"):
        image = self.create_by_qemu(4 * MiB, options, f"{name}.qcow2")
        run("qemu-io", "-c", "write -P 7 0 200k", image)
        with open(image, "r+b") as file:
            file.seek(offset)
            file.write(data)
        return image

    def test_an_external_data_file(self):
        image = self.create_by_qemu(4 * MiB, f"data_file={self.path('data.raw')}")
        self.must_refuse(image, "data file")

    def test_encryption(self):
        for kind in ("luks", "aes"):
            self.must_refuse(self.create_encrypted(kind), "encrypt")

    def create_encrypted(self, kind):
        """qemu-img measures how fast it derives keys, and gives up where the machine's clock of processor time is not
        accurate enough at that moment: then it is asked again."""
        for attempt in range(20):
            try:
                return self.create_by_qemu(4 * MiB, f"encrypt.format={kind},encrypt.key-secret=s",
                                           f"{kind}{attempt}.qcow2", ["--object", "secret,id=s,data=something"])
            except AssertionError as error:
                if "accurate CPU usage" not in str(error):
                    raise
                last = error
        raise last

    def test_the_corrupt_bit(self):
        image = self.patched("corrupt", INCOMPATIBLE, number(CORRUPT))
        self.must_refuse(image, "corrupt", read_only_too=False)

    def test_the_dirty_bit(self):
        image = self.patched("dirty", INCOMPATIBLE, number(DIRTY), "lazy_refcounts=on")
        self.must_refuse(image, "dirty|not closed|repair|qemu-img check", read_only_too=False)

    def test_unknown_incompatible_features(self):
        for bit in (5, 20, 63):
            image = self.patched(f"bit-{bit}", INCOMPATIBLE, number(1 << bit))
            self.must_refuse(image, rf"feature.*\b{bit}\b|\b{bit}\b.*feature")

    def test_compression_types_that_contradict_the_feature_bit(self):
        type_7 = number(8) + bytes(16) + struct.pack(">II", 4, 112) + b"\7"
        self.must_refuse(self.patched("unknown-type", INCOMPATIBLE, type_7), "compression")
        self.must_refuse(self.patched("bit-without-type", INCOMPATIBLE, number(8)), "compression")
        self.must_refuse(self.patched("type-without-bit", 104, b"\1"), "compression")

    def test_headers_that_cannot_be(self):
        rows = [
            ("magic", 0, b"QFI\xfc", "qcow2"),
            ("version-1", 4, struct.pack(">I", 1), "version"),
            ("version-4", 4, struct.pack(">I", 4), "version"),
            ("cluster-bits-8", 20, struct.pack(">I", 8), "cluster"),
            ("cluster-bits-22", 20, struct.pack(">I", 22), "cluster"),
            ("cluster-bits-huge", 20, b"\xff\xff\xff\xff", "cluster"),
            ("size-huge", 24, b"\xff" * 8, "size|large|big|L1"),
            ("size-beyond-l1", 24, number(1 << 50), "L1"),
            ("encryption-3", 32, struct.pack(">I", 3), "encrypt"),
            ("l1-entries-huge", 36, b"\xff\xff\xff\xff", "L1"),
            ("l1-unaligned", 40, number(0x30001), "L1"),
            ("l1-beyond-addresses", 40, number(0xff << 56), "L1"),
            ("refcount-table-none", 56, struct.pack(">I", 0), "refcount"),
            ("refcount-table-huge", 56, b"\xff\xff\xff\xff", "refcount"),
            ("refcount-table-unaligned", 48, number(0x10200), "refcount"),
            ("snapshots-too-many", 60, b"\xff\xff\xff\xff", "snapshot"),
            ("refcount-order-7", 96, struct.pack(">I", 7), "refcount"),
            ("header-length-short", 100, struct.pack(">I", 96), "header"),
            ("header-length-long", 100, struct.pack(">I", 1 << 20), "header"),
            ("extension-too-long", 112, struct.pack(">II", 0x12345678, 1 << 30), "extension"),
        ]
        for name, offset, data, says in rows:
            self.must_refuse(self.patched(name, offset, data), says)

    def test_truncated_images(self):
        whole = self.patched("whole", 104, b"\0")
        with open(whole, "rb") as file:
            data = file.read()
        for size, says in [(0, "qcow2|short|truncated|empty"), (3, "qcow2|short|truncated"),
                           (50, "qcow2|short|truncated|header"), (103, "header|short|truncated")]:
            self.must_refuse(content.write_file(self.path(f"first-{size}.qcow2"), data[:size]), says)

    def test_what_is_no_image(self):
        self.must_refuse(content.write_file(self.path("text"), content.text(100 * KiB, 1)), "qcow2")
        self.must_refuse(content.write_file(self.path("zeros"), bytes(MiB)), "qcow2")
        run("qemu-img", "create", "-q", "-f", "vmdk", self.path("disk.vmdk"), "1M")
        self.must_refuse(self.path("disk.vmdk"), "qcow2")
        folder = self.path("a-folder")
        os.mkdir(folder)
        self.must_refuse(folder, "directory|regular")
        self.must_refuse(self.path("missing.qcow2"), "no such file")
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        self.must_refuse(pipe, "regular|fifo|pipe")
        self.must_refuse("/dev/null", "regular|device|qcow2|short|truncated")

    def test_an_image_that_may_not_be_written(self):
        image = self.create(MiB)
        os.chmod(image, 0o444)
        if os.geteuid() != 0:
            self.must_refuse(image, "permission", read_only_too=False)
            return
        point = self.path("point")
        os.mkdir(point)
        os.chmod(self.folder, 0o755)
        os.chmod(point, 0o777)
        program = list(harness.AS_NOBODY)
        if run(*program, QCOWFS, "--version", expect=None).returncode != 0:
            self.skipTest("another user cannot reach the program in this folder")
        self.refused(*program, QCOWFS, image, point, names=[image], says="permission.*-r mounts it")
        self.assertNotIn(point, harness.mounts())

    def test_metadata_that_contradicts_itself_is_not_written_to(self):
        """Tables that point past the file's end or into each other: refused, or served without harm."""
        rows = [("l1-past-the-end", 0x30000, number((1 << 63) | (1 << 40))),
                ("l2-over-the-header", 0x30000, number(1 << 63)),
                ("l2-unaligned", 0x30000, number((1 << 63) | 0x40200)),
                ("refcount-block-past-the-end", 0x10000, number(1 << 40)),
                ("cluster-over-the-header", 0x40000, number(1 << 63)),
                ("cluster-reserved-bits", 0x40000, number((1 << 63) | (1 << 57) | 0x50000))]
        for name, offset, data in rows:
            with self.subTest(name=name):
                self.stays_alive(self.patched(name, offset, data))

    def stays_alive(self, image):
        point = self.path(f"point-{self.next_number()}")
        os.mkdir(point)
        before = digest(image)
        done = run(QCOWFS, "-r", image, point, expect=None, timeout=30)
        self.addCleanup(lambda: point in harness.mounts() and run(QCOWFS, "umount", point))
        if done.returncode != 0:
            self.assertGreater(done.returncode, 0)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        else:
            disk = os.path.join(point, os.listdir(point)[0])
            try:
                harness.read_at(disk, 0, 4 * MiB)
            except OSError:
                pass  # an error is an answer
            self.assertEqual(os.path.getsize(disk), 4 * MiB, "the daemon is gone")
            run(QCOWFS, "umount", point)
        self.assertEqual(digest(image), before)


def number(value):
    return struct.pack(">Q", value)


def digest(path):
    return run("sha256sum", path).stdout if os.path.isfile(path) else os.path.exists(path)


if __name__ == "__main__":
    harness.main()
