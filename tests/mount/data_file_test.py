#!/usr/bin/env -S python3 -B
"""Images whose data are in a file of their own: read and written where QEMU would, and opened only where that was asked
for. QEMU judges the image; whoever reads a raw data file by itself judges that one."""

import itertools
import os

import content
import harness
from harness import KiB, MiB, QCOWFS, run
from layers_test import Layered

ALLOWED = "data_file=on"


class WithDataFile(Layered):
    def apart(self, size, options="", name="apart", raw=False, arguments=()):
        """An image of QEMU's, and its data file."""
        data = self.path(f"{name}.data")
        words = [f"data_file={data}", *(["data_file_raw=on"] if raw else []), *([options] if options else [])]
        return self.create_by_qemu(size, ",".join(words), f"{name}.qcow2", arguments), data

    def must_be_sound(self, image, twin, data, raw):
        self.judge(image, twin)
        run(QCOWFS, "check", "--data", image)
        self.assertEqual(os.path.getsize(data), os.path.getsize(twin))
        facts = self.info(image)["format-specific"]["data"]
        self.assertEqual((facts["data-file"], facts["data-file-raw"]), (data, raw))
        if raw:
            self.assert_same_bytes(data, twin)


class Served(WithDataFile):
    def test_every_kind(self):
        kinds = itertools.product((False, True), ("", "extended_l2=on", "cluster_size=512", "cluster_size=2M"),
                                  (False, True))
        for number, (raw, options, below) in enumerate(kinds):
            if raw and below:
                continue  # such a file by itself would not be the disk
            with self.subTest(raw=raw, options=options, below=below):
                size = 5 * MiB + 3 * 512
                base = self.path(f"base{number}.raw")
                with open(base, "wb") as file:
                    file.write(content.mixed(size - MiB, number))
                arguments = ("-F", "raw", "-b", base) if below else ()
                image, data = self.apart(size, options, f"kind{number}", raw, arguments)
                twin = self.twin(size, f"twin{number}.raw")
                if below:
                    run("dd", f"if={base}", f"of={twin}", "conv=notrunc", "status=none")
                self.qemu_writes(image, twin, number, 20, 200)
                for turn in range(2):
                    daemon = self.mount(image, ALLOWED)
                    self.assert_same_bytes(daemon.disk, twin)
                    self.write_about(daemon, twin, (number, turn))
                    daemon.unmount()
                    self.must_be_sound(image, twin, data, raw)
                    self.qemu_writes(image, twin, (number, turn), 20, 200)
                    self.must_be_sound(image, twin, data, raw)

    def test_nothing_is_compressed_and_space_comes_back(self):
        for raw in (False, True):
            image, data = self.apart(32 * MiB, name=f"space{raw}", raw=raw)
            daemon = self.mount(image, ALLOWED)
            harness.write_at(daemon.disk, 8 * MiB, content.text(8 * MiB, 1))
            harness.fsync(daemon.disk)
            with open(data, "rb") as file:
                file.seek(8 * MiB)
                self.assertEqual(file.read(8 * MiB), content.text(8 * MiB, 1))
            self.assertGreaterEqual(os.stat(daemon.disk).st_blocks * 512, 8 * MiB)
            harness.punch(daemon.disk, 8 * MiB, 8 * MiB)
            daemon.unmount()
            self.assertLess(os.stat(data).st_blocks * 512, 2 * MiB)
            self.assertLess(os.stat(image).st_blocks * 512, MiB)
            self.check(image)

    def test_it_grows_and_shrinks(self):
        for raw in (False, True):
            image, data = self.apart(4 * MiB, name=f"resized{raw}", raw=raw)
            twin = self.twin(4 * MiB, f"resized{raw}.raw")
            for turn, size in enumerate((5 * MiB + 512, 3 * MiB + 1024, 3 * MiB + 4 * KiB, 9 * MiB)):
                daemon = self.mount(image, ALLOWED)
                self.write_about(daemon, twin, (raw, turn), 12)
                for disk in (daemon.disk, twin):
                    os.truncate(disk, size)
                self.assert_same_bytes(daemon.disk, twin)
                self.write_about(daemon, twin, (raw, turn, "after"), 12)
                daemon.unmount()
                self.must_be_sound(image, twin, data, raw)

    def test_what_was_cut_off_does_not_come_back(self):
        image, data = self.apart(4 * MiB, "", "cut", raw=True)
        daemon = self.mount(image, ALLOWED)
        harness.write_at(daemon.disk, 0, content.text(4 * MiB, 3))
        os.truncate(daemon.disk, MiB + 512)
        os.truncate(daemon.disk, 4 * MiB)
        daemon.unmount()
        for file in (data, None):
            if file is None:
                file = self.path("converted.raw")
                run("qemu-img", "convert", "-O", "raw", image, file)
            with open(file, "rb") as opened:
                self.assertEqual(opened.read(), content.text(MiB + 512, 3) + bytes(3 * MiB - 512))

    def test_what_was_synced_survives_a_kill(self):
        for raw in (False, True):
            image, data = self.apart(16 * MiB, name=f"killed{raw}", raw=raw)
            daemon = self.mount(image, ALLOWED)
            harness.write_at(daemon.disk, MiB, content.text(3 * MiB, 1))
            harness.fsync(daemon.disk)
            harness.write_at(daemon.disk, 6 * MiB, content.text(3 * MiB, 2))
            daemon.kill()
            status = run("qemu-img", "check", "-f", "qcow2", image, expect=None).returncode
            self.assertIn(status, (0, 3))  # 3: clusters set aside for tables
            back = self.path("back.raw")
            run("qemu-img", "convert", "-O", "raw", image, back)
            with open(back, "rb") as file:
                file.seek(MiB)
                self.assertEqual(file.read(3 * MiB), content.text(3 * MiB, 1))

    def test_convert_compare_and_a_backing_image(self):
        image, data = self.apart(4 * MiB)
        twin = self.twin(4 * MiB)
        daemon = self.mount(image, ALLOWED)
        self.write_about(daemon, twin, "verbs")
        daemon.unmount()
        run(QCOWFS, "convert", "-o", ALLOWED, image, self.path("packed.qcow2"))
        self.judge(self.path("packed.qcow2"), twin)
        run(QCOWFS, "compare", "-o", ALLOWED, image, twin)
        above = self.path("above.qcow2")
        run(QCOWFS, "create", "--backing", os.path.basename(image), "--backing-format", "qcow2", above)
        self.refused(QCOWFS, above, self.point(), names=[image, "data_file=on"])
        before = run("sha256sum", data).stdout
        daemon = self.mount(above, ALLOWED)
        self.write_about(daemon, twin, "above")
        daemon.unmount()
        self.judge(above, twin)
        self.assertEqual(run("sha256sum", data).stdout, before)

    def point(self):
        point = self.path(f"point-{self.next_number()}")
        os.mkdir(point)
        return point


class Refused(WithDataFile):
    """What an image must not lead to, unless it was asked for."""

    def must_refuse(self, image, *options, says=None, names=None):
        before = run("sha256sum", image).stdout
        for read_only in ([], ["ro"]):
            point = self.path(f"refused-{self.next_number()}")
            os.mkdir(point)
            words = [*options, *read_only]
            self.refused(QCOWFS, *(["-o", ",".join(words)] if words else []), image, point, says=says,
                         names=names or [image])
        self.assertEqual(run("sha256sum", image).stdout, before)

    def rename(self, image, name):
        """Has the image name another data file, of as many letters."""
        with open(image, "r+b") as file:
            head = bytearray(file.read(4 * KiB))
            at = head.find(b"DATA")
            length = int.from_bytes(head[at + 4:at + 8], "big")
            file.seek(at + 8)
            file.write(name.encode().rjust(length, b"/"))

    def test_unless_it_was_asked_for(self):
        image, data = self.apart(MiB)
        self.must_refuse(image, names=[data], says="data_file=on allows")
        self.must_refuse(image, "data_file=off", names=[data], says="data_file=on allows")
        self.refused(QCOWFS, "convert", image, self.path("x"), names=[image, data], says="data_file=on")
        self.refused(QCOWFS, "compare", image, image, names=[image, data], says="data_file=on")
        self.refused(QCOWFS, "map", image, names=[image], says="external data file is not supported")
        self.refused(QCOWFS, "snapshot", "create", image, "x", names=[image], says="external data file")
        self.refused(QCOWFS, "-o", "data_file=perhaps", image, self.folder, says="data_file")

    def test_a_file_elsewhere(self):
        image, data = self.apart(MiB)
        far = os.path.join(self.folder, "far")
        os.mkdir(far)
        os.mkdir(os.path.join(self.folder, "own"))
        moved = os.path.join(self.folder, "own", "image.qcow2")
        os.rename(image, moved)
        self.must_refuse(moved, ALLOWED, names=[data], says="outside .*backing_dir=")
        daemon = self.mount(moved, ALLOWED, f"backing_dir={self.folder}")
        daemon.unmount()
        link = os.path.join(self.folder, "own", "link")
        os.symlink(data, link)
        self.rename(moved, link)
        self.must_refuse(moved, ALLOWED, says="outside .*backing_dir=")

    def test_what_is_no_plain_file(self):
        image, data = self.apart(MiB)
        os.remove(data)
        self.must_refuse(image, ALLOWED, names=[data], says="no such file")
        os.mkfifo(data)
        self.must_refuse(image, ALLOWED, names=[data], says="not a regular file")
        os.remove(data)
        os.mkdir(data)
        self.must_refuse(image, ALLOWED, names=[data], says="not a regular file")
        os.link(image, self.path("self"))
        self.rename(image, self.path("self"))
        self.must_refuse(image, ALLOWED, says="among those")
        nbd, _ = self.apart(MiB, name="nbd")
        with open(nbd, "r+b") as file:
            at = file.read(4 * KiB).find(b"DATA")
            file.seek(at + 8)
            file.write(b"nbd:")
        self.must_refuse(nbd, ALLOWED, says="none of this machine")

    def test_a_file_in_use(self):
        image, data = self.apart(MiB)
        other = self.path("other.qcow2")
        run("cp", image, other)
        daemon = self.mount(image, ALLOWED)
        self.must_refuse(other, ALLOWED, names=[data], says="in use")
        daemon.unmount()

    def test_clusters_in_a_place_that_is_not_theirs(self):
        image, data = self.apart(MiB)
        run("qemu-io", "-c", "write 0 256k", image)
        with open(image, "r+b") as file:
            head = file.read(64)
            file.seek(int.from_bytes(head[40:48], "big"))
            table = int.from_bytes(file.read(8), "big") & 0xfffffffffffe00
            file.seek(table + 8)
            file.write((1 << 63 | 0x50000).to_bytes(8, "big"))
            file.write((1 << 63 | 0x30001).to_bytes(8, "big"))  # reads as zeros, and owns what is another's
        daemon = self.mount(image, ALLOWED, "ro")
        with open(daemon.disk, "rb") as file:
            self.assertEqual(file.read(64 * KiB), b"\xcd" * 64 * KiB)
            for at in (64 * KiB, 128 * KiB):
                with self.assertRaises(OSError):
                    os.pread(file.fileno(), 4096, at)
        daemon.unmount()


if __name__ == "__main__":
    harness.main()
