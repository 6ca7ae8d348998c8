#!/usr/bin/env -S python3 -B
"""Space on the host stays small: given back while mounted, and by `qcowfs compact`, whenever it is interrupted."""

import functools
import os
import random
import signal
import subprocess
import time

import content
import harness
from harness import KiB, MiB, run, scaled

SIZE = scaled(32, 16) * MiB
SLACK = 512 * KiB  # of what is measured in blocks and steps


@functools.cache
def text():
    return content.text(SIZE, 1)


def piece(source):
    """4 KiB that shrink, made of what there is: quicker than making new ones."""
    at = source.randrange(SIZE - 4096)
    return text()[at:at + 4096]


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def allocated(path):
    return os.stat(path).st_blocks * 512


def overwrite(disk, seed, count, size=SIZE):
    """Random blocks of 4 KiB, some of them made durable in between."""
    source = random.Random(seed)
    for number in range(count):
        harness.write_at(disk, source.randrange(size // 4096) * 4096, piece(source))
        if number % 1000 == 999:
            harness.fsync(disk)


class Case(harness.MountCase):
    def worn(self, *options, rounds=1):
        """An image written over and over, and the bytes of its disk."""
        image = self.create(SIZE, *options)
        daemon = self.mount(image, "clean=off", "discard=off")
        harness.write_at(daemon.disk, 0, text())
        harness.fsync(daemon.disk)
        overwrite(daemon.disk, 2, rounds * SIZE // 4096)
        twin = self.path("twin.raw")
        run("cp", "--sparse=always", daemon.disk, twin)
        daemon.unmount()
        return image, twin

    def fresh(self, twin, *options):
        path = self.path(f"fresh{self.next_number()}.qcow2")
        run(harness.QCOWFS, "convert", "-f", "raw", *options, twin, path)
        return path

    def assert_compact(self, image, fresh, slack=SLACK):
        for what, measure in (("allocated", allocated), ("length", os.path.getsize)):
            self.assertLessEqual(measure(image), 1.02 * measure(fresh) + slack, what)


class Compact(Case):
    def compacted(self, create=(), convert=(), slack=SLACK):
        image, twin = self.worn(*create)
        before = allocated(image)
        said = run(harness.QCOWFS, "compact", image).stdout
        self.assertRegex(said, r"^allocated [\d.]+ MiB -> [\d.]+ MiB, length [\d.]+ MiB -> [\d.]+ MiB\n$")
        self.assertLess(allocated(image), before)
        self.assert_compact(image, self.fresh(twin, *convert), slack)
        self.judge(image, twin)

    def test_what_was_overwritten(self):
        self.compacted()

    def test_zstd(self):
        self.compacted(("--compression", "zstd"), ("--compression", "zstd"))

    def test_small_clusters(self):
        self.compacted(("--cluster-size", "4k"), ("--cluster-size", "4k"))

    def test_large_clusters(self):
        self.compacted(("--cluster-size", "2m"), ("--cluster-size", "2m"), 4 * MiB)  # two clusters

    def test_what_does_not_shrink_moves_too(self):
        image = self.create(SIZE)
        daemon = self.mount(image, "clean=off")
        harness.write_at(daemon.disk, 0, content.noise(SIZE, 1))
        harness.fsync(daemon.disk)
        for at in range(0, SIZE - MiB, 2 * MiB):  # every second mebibyte
            harness.punch(daemon.disk, at, MiB)
        twin = self.path("twin.raw")
        run("cp", "--sparse=always", daemon.disk, twin)
        daemon.unmount()
        self.assertGreater(os.path.getsize(image), SIZE * 0.9)
        run(harness.QCOWFS, "compact", image)
        self.assert_compact(image, self.fresh(twin))
        self.judge(image, twin)

    def test_stronger_compression(self):
        image, twin = self.worn()
        run(harness.QCOWFS, "compact", "--recompress", "9", image)
        self.assert_compact(image, self.fresh(twin, "--level", "9"))
        self.judge(image, twin)

    def test_twice_is_once(self):
        image, twin = self.worn()
        run(harness.QCOWFS, "compact", image)
        once = allocated(image), os.path.getsize(image)
        run(harness.QCOWFS, "compact", image)
        self.assertLessEqual(allocated(image), once[0] + SLACK)
        self.assertLessEqual(os.path.getsize(image), once[1] + SLACK)
        self.judge(image, twin)

    def test_an_empty_image(self):
        image = self.create(SIZE)
        before = os.path.getsize(image)
        run(harness.QCOWFS, "compact", image)
        self.assertLessEqual(os.path.getsize(image), before)
        self.judge(image, self.twin(SIZE))

    def test_interrupted(self):
        """Ctrl-C and SIGKILL at some moments of it: nothing is lost, and it can be finished."""
        image, twin = self.worn()
        for number, how in enumerate((signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
            process = subprocess.Popen([harness.QCOWFS, "compact", image], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
            time.sleep(0.02 + 0.06 * number)
            process.send_signal(how)
            said = process.communicate(timeout=60)[1]
            if process.returncode > 0:  # not where it came before the program could say anything
                self.assertIn("interrupted; it is sound", said)
            self.assertIn(run("qemu-img", "check", "-q", image, expect=None).returncode, (0, 3), said)
            run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", twin, image)
        run(harness.QCOWFS, "compact", image)
        self.assert_compact(image, self.fresh(twin))
        self.judge(image, twin)

    def test_mounted(self):
        """Beside a guest that writes, ended early, and once more to its end."""
        image, twin = self.worn()
        daemon = self.mount(image, "clean=off", "discard=on")
        before = allocated(image)
        process = subprocess.Popen([harness.QCOWFS, "compact", daemon.point], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        harness.wait_for(lambda: process.poll() is not None or
                         os.getxattr(daemon.disk, "user.qcowfs.compact").startswith(b"running"), 30)
        for disk in (daemon.disk, twin):
            overwrite(disk, 5, 500)
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=120)
        self.assertTrue(said.startswith("allocated") or "interrupted" in complaint, (said, complaint))
        said = run(harness.QCOWFS, "compact", daemon.disk).stdout
        self.assertRegex(said, r"^allocated [\d.]+ MiB -> [\d.]+ MiB\n$")
        self.assertLess(allocated(image), before)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.assert_compact(image, self.fresh(twin))
        self.judge(image, twin)

    def test_unmounted_meanwhile(self):
        image, twin = self.worn()
        daemon = self.mount(image, "clean=off")
        os.setxattr(daemon.disk, "user.qcowfs.compact", b"on")
        daemon.unmount()
        self.judge(image, twin)

    def test_refused(self):
        image = self.create(SIZE)
        daemon = self.mount(image)
        self.refused(harness.QCOWFS, "compact", image, names=[image])
        daemon.unmount()
        run("qemu-img", "snapshot", "-c", "then", image)
        before = read_file(image)
        self.refused(harness.QCOWFS, "compact", image, names=[image], says="snapshots")
        self.assertEqual(read_file(image), before)
        self.refused(harness.QCOWFS, "compact", self.path("nothing.qcow2"), names=[self.path("nothing.qcow2")])


class Mounted(Case):
    def test_space_comes_back_while_it_is_mounted(self):
        for words in ((), ("clean=on",)):
            with self.subTest(words=words):
                image = self.create(SIZE, name=f"mounted{len(words)}.qcow2")
                daemon = self.mount(image, "commit_interval=1", *words)
                harness.write_at(daemon.disk, 0, content.noise(SIZE, 1))
                harness.fsync(daemon.disk)
                self.assertGreater(allocated(image), SIZE)
                harness.punch(daemon.disk, SIZE // 4, SIZE // 2)
                harness.fsync(daemon.disk)
                harness.wait_for(lambda: allocated(image) <= SIZE // 2 + SLACK, 60)
                harness.punch(daemon.disk, 0, SIZE)
                harness.fsync(daemon.disk)
                harness.wait_for(lambda: allocated(image) <= SLACK, 60)
                harness.write_at(daemon.disk, 5, b"still here")
                self.assertEqual(harness.read_at(daemon.disk, 0, 15), bytes(5) + b"still here")
                daemon.unmount()
                self.check(image)

    def test_overwritten_blocks_come_back(self):
        image = self.create(SIZE)
        daemon = self.mount(image, "commit_interval=1")
        harness.write_at(daemon.disk, 0, text())
        overwrite(daemon.disk, 2, SIZE // 4096)
        harness.fsync(daemon.disk)
        twin = self.path("twin.raw")
        run("cp", "--sparse=always", daemon.disk, twin)
        fresh = allocated(self.fresh(twin))
        harness.wait_for(lambda: allocated(image) <= 1.2 * fresh + 2 * SLACK, 60)
        daemon.unmount()
        self.assertLessEqual(allocated(image), 1.2 * fresh + SLACK)
        self.judge(image, twin)

    def test_without_discard_nothing_is_punched(self):
        image = self.create(SIZE)
        daemon = self.mount(image, "commit_interval=1", "discard=off")
        harness.write_at(daemon.disk, 0, content.noise(SIZE, 1))
        harness.fsync(daemon.disk)
        harness.punch(daemon.disk, 0, SIZE // 2)
        harness.fsync(daemon.disk)
        time.sleep(3)
        self.assertGreater(allocated(image), SIZE)
        daemon.unmount()
        self.assertGreater(allocated(image), SIZE * 0.9)
        self.check(image)


class Soundness(Case):
    def test_leaks_are_given_back(self):
        image = self.create(SIZE)
        daemon = self.mount(image, "commit_interval=1", "clean=off", "discard=off")
        for number in range(20):
            harness.write_at(daemon.disk, 0, content.noise(SIZE // 8, number))
        harness.fsync(daemon.disk)
        harness.write_at(daemon.disk, SIZE // 2, content.noise(SIZE // 8, 3))
        daemon.kill()
        self.mount(image).unmount()
        self.check(image)

    def test_damage_is_mounted_read_only_and_said(self):
        image = self.create_by_qemu(SIZE)
        run("qemu-io", "-c", "write -P 1 0 64k", "-c", "write -P 2 64k 64k", image)
        with open(image, "r+b") as file:  # two guest clusters at one place
            file.seek(40)
            l1 = int.from_bytes(file.read(8), "big")
            file.seek(l1)
            l2 = int.from_bytes(file.read(8), "big") & 0xfffffffffffe00
            file.seek(l2)
            entry = file.read(8)
            file.write(entry)
        before = read_file(image)
        folder = self.path("mnt")
        os.mkdir(folder)
        done = run(harness.QCOWFS, image, folder)
        self.addCleanup(run, harness.QCOWFS, "umount", folder)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("mounted read-only", done.stderr)
        disk = os.path.join(folder, os.listdir(folder)[0])
        self.assertEqual(harness.read_at(disk, 0, 4), b"\1\1\1\1")
        with self.assertRaises(OSError):
            harness.write_at(disk, 0, b"x")
        self.assertEqual(read_file(image), before)


if __name__ == "__main__":
    harness.main()
