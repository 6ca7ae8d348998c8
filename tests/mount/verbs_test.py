#!/usr/bin/env -S python3 -B
"""convert, compare, map and a preallocating create: the verbs that work on whole disks without a mount. QEMU judges
what they make and is the model for what they say."""

import itertools
import json
import os
import pty
import random
import re
import signal
import subprocess
import unittest

import content
import harness
from harness import KiB, MiB, QCOWFS, run

LONG_ENOUGH = 3 * MiB  # for several pieces


class VerbCase(harness.MountCase):
    def write(self, name, data):
        return content.write_file(self.path(name), data)

    def names(self):
        return set(os.listdir(self.folder))

    def convert(self, source, target, *options, **more):
        """The target's path, after a conversion that says nothing."""
        done = run(QCOWFS, "convert", *options, source, target, **more)
        self.assertEqual((done.stdout, done.stderr), ("", ""))
        return target

    def same_to_qemu(self, left, right):
        done = run("qemu-img", "compare", left, right, expect=None)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Convert(VerbCase):
    def test_there_and_back(self):
        raw = self.write("raw", content.mixed(LONG_ENOUGH, 1))
        for options in ([], ["--compression", "zstd"], ["--cluster-size", "512"], ["--cluster-size", "4k"],
                        ["--cluster-size", "2M"], ["--level", "9", "--window", "32k"],
                        ["-f", "raw", "-O", "qcow2", "--compression", "zstd", "--cluster-size", "4k", "--level", "5"]):
            with self.subTest(options=options):
                number = self.next_number()
                image = self.convert(raw, self.path(f"{number}.qcow2"), *options)
                self.judge(image, raw)
                back = self.convert(image, self.path(f"{number}.raw"), "-O", "raw")
                self.assert_same_bytes(back, raw)

    def test_what_was_asked_for_is_in_the_header(self):
        raw = self.write("raw", content.text(MiB, 1))
        image = self.convert(raw, self.path("image"), "--compression", "zstd", "--cluster-size", "32k")
        facts = self.info(image)
        self.assertEqual(facts["cluster-size"], 32 * KiB)
        self.assertEqual(facts["format-specific"]["data"]["compression-type"], "zstd")
        facts = self.info(self.convert(raw, self.path("other")))
        self.assertEqual(facts["cluster-size"], 64 * KiB)
        self.assertEqual(facts["format-specific"]["data"]["compression-type"], "zlib")
        self.assertLess(os.path.getsize(image), MiB * 2 // 3)

    def test_images_of_others(self):
        raw = self.write("raw", content.mixed(LONG_ENOUGH, 2))
        for name, arguments in [("plain", []), ("zlib", ["-c"]), ("old", ["-o", "compat=0.10"]),
                                ("zstd", ["-c", "-o", "compression_type=zstd,cluster_size=4k"])]:
            with self.subTest(name):
                theirs = self.path(f"{name}.qcow2")
                run("qemu-img", "convert", "-O", "qcow2", *arguments, raw, theirs)
                self.judge(self.convert(theirs, self.path(f"{name}.ours"), "--cluster-size", "8k"), raw)
                self.assert_same_bytes(self.convert(theirs, self.path(f"{name}.raw"), "-O", "raw"), raw)

    def test_backing_files(self):
        base = self.write("base", content.mixed(LONG_ENOUGH + 300, 1))
        top = self.path("top")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top)
        run("qemu-io", "-c", "write -P 1 100k 50k", "-c", "write -z 1M 300k", "-c", "write -P 2 3M 512", top)
        flat = self.path("flat")
        run("qemu-img", "convert", "-O", "raw", top, flat)
        self.judge(self.convert(top, self.path("image")), flat)
        self.assert_same_bytes(self.convert(top, self.path("raw"), "-O", "raw"), flat)
        self.assertEqual(run(QCOWFS, "compare", top, flat).stdout, "Images are identical.\n")
        self.refused(QCOWFS, "convert", "-o", "backing=off", top, self.path("target"), names=[top, base])
        self.refused(QCOWFS, "compare", "-o", "backing=off", flat, top, names=[top, base])
        self.assertNotIn("target", self.names())

    def test_odd_sizes(self):
        for size in (0, 1, 511, 512, 1000, 65535, 65536 + 512, MiB - 1, MiB + 12345):
            with self.subTest(size=size):
                raw = self.write(f"{size}", content.text(size, size))
                image = self.convert(raw, self.path(f"{size}.qcow2"))
                self.judge(image, raw)
                back = self.convert(image, self.path(f"{size}.back"), "-O", "raw")
                padded = self.write(f"{size}.padded", content.text(size, size) + bytes(-size % 512))
                self.assert_same_bytes(back, padded)
                self.assert_same_bytes(self.convert(raw, self.path(f"{size}.copy"), "-O", "raw"), padded)
                with open(raw, "rb") as file:
                    self.judge(self.convert("-", self.path(f"{size}.piped"), stdin=file), raw)

    def test_holes_stay_holes(self):
        size = 512 * MiB
        extents = [(3 * MiB + 4096, content.text(100000, 1)), (200 * MiB, content.noise(MiB, 2)),
                   (size - 5000, content.text(5000, 3))]
        raw = content.write_sparse_file(self.path("raw"), size, extents)
        image = self.convert(raw, self.path("image"))
        self.judge(image, raw)
        self.assertLess(os.path.getsize(image), 2 * MiB)
        back = self.convert(image, self.path("back"), "-O", "raw")
        self.assert_same_bytes(back, raw)
        self.assertLess(os.stat(back).st_blocks * 512, 2 * MiB)
        copy = self.convert(raw, self.path("copy"), "-O", "raw")
        self.assert_same_bytes(copy, raw)
        self.assertLess(os.stat(copy).st_blocks * 512, 2 * MiB)

    def test_zeros_become_holes(self):
        data = content.noise(MiB, 1) + bytes(30 * MiB) + content.noise(MiB, 2)
        raw = self.write("raw", data)
        image = self.convert(raw, self.path("image"))
        self.judge(image, raw)
        self.assertLess(os.path.getsize(image), 3 * MiB)
        copy = self.convert(raw, self.path("copy"), "-O", "raw")
        self.assert_same_bytes(copy, raw)
        self.assertLess(os.stat(copy).st_blocks * 512, 3 * MiB)

    def test_empty_disks(self):
        raw = self.twin(10 * MiB)
        self.judge(self.convert(raw, self.path("image")), raw)
        self.assert_same_bytes(self.convert(self.path("image"), self.path("back"), "-O", "raw"), raw)

    def test_from_stdin(self):
        data = content.mixed(LONG_ENOUGH, 5) + bytes(4 * MiB) + content.mixed(LONG_ENOUGH + 77, 6)
        raw = self.write("raw", data)
        for options in ([], ["--cluster-size", "512", "--compression", "zstd"], ["-O", "raw"]):
            with self.subTest(options=options):
                target = self.path(f"target-{self.next_number()}")
                with subprocess.Popen(["cat", raw], stdout=subprocess.PIPE) as cat:
                    self.convert("-", target, *options, stdin=cat.stdout)
                if "raw" in options:
                    self.assert_same_bytes(target, raw)
                else:
                    self.judge(target, raw)

    def test_to_stdout(self):
        data = content.mixed(LONG_ENOUGH, 7) + bytes(4 * MiB)
        image = self.convert(self.write("raw", data), self.path("image"))
        for options in ([], ["-O", "raw"]):
            with open(self.path("out"), "wb") as out:
                subprocess.run([QCOWFS, "convert", *options, image, "-"], stdout=out, check=True, timeout=60)
            self.assert_same_bytes(self.path("out"), self.path("raw"))

    def test_from_stdin_to_stdout(self):
        data = content.mixed(LONG_ENOUGH + 3, 8)
        done = subprocess.run([QCOWFS, "convert", "-", "-"], input=data, capture_output=True, check=True, timeout=60)
        self.assertEqual(done.stdout, data)

    def test_a_reader_that_goes_away(self):
        image = self.convert(self.write("raw", content.noise(LONG_ENOUGH, 1)), self.path("image"))
        with subprocess.Popen([QCOWFS, "convert", image, "-"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            process.stdout.read(1000)
            process.stdout.close()
            self.assertEqual(process.wait(30), 1)
            self.assertRegex(process.stderr.read().decode(), r"^qcowfs: writing to stdout: .*\n$")

    def test_the_format_may_be_said(self):
        image = self.convert(self.write("raw", content.text(MiB, 1)), self.path("image"))
        nested = self.convert(image, self.path("nested"), "-f", "raw")  # the image itself as a disk
        back = self.convert(nested, self.path("back"), "-O", "raw")
        size = os.path.getsize(image)
        self.assertEqual(harness.read_at(back, 0, size), harness.read_at(image, 0, size))
        with open(image, "rb") as file:
            self.refused(QCOWFS, "convert", "-", self.path("piped"), stdin=file, says="stdin")
        with open(image, "rb") as file:
            self.convert("-", self.path("piped"), "-f", "raw", stdin=file)
        self.same_to_qemu(self.path("piped"), nested)

    def test_what_it_refuses(self):
        raw = self.write("raw", content.text(MiB, 1))
        image = self.convert(raw, self.path("image"))
        target = self.path("target")
        before = {name: harness.read_at(self.path(name), 0, 2 * MiB) for name in self.names()}
        convert = (QCOWFS, "convert")
        for existing in (raw, image):
            self.refused(*convert, raw, existing, names=[existing], says="exists")
            self.refused(*convert, "-O", "raw", image, existing, names=[existing], says="exists")
        os.symlink(self.path("nowhere"), self.path("dangling"))
        self.refused(*convert, raw, self.path("dangling"), names=["dangling"], says="exists")
        os.unlink(self.path("dangling"))
        self.refused(*convert, self.path("missing"), target, names=[self.path("missing")], says="no such file")
        self.refused(*convert, self.folder, target, names=[self.folder])
        self.refused(*convert, raw, self.path("no/such/folder"), names=["no/such/folder"], says="no such file")
        self.refused(*convert, "-f", "qcow2", raw, target, names=[raw], says="not a qcow2 image")
        for arguments, says in [((raw,), "TARGET"), ((), "SOURCE"), (("-O", "vmdk", raw, target), "vmdk"),
                                (("--level", "0", raw, target), "level"), (("--window", "5k", raw, target), "window"),
                                (("--cluster-size", "3k", raw, target), "cluster-size"),
                                (("--compression", "lz4", raw, target), "lz4"),
                                (("-O", "raw", "--level", "3", raw, target), "raw"),
                                (("-O", "qcow2", raw, "-"), "stdout")]:
            done = self.refused(*convert, *arguments, says=says)
            self.assertEqual(done.returncode, 2)
        self.assertEqual(self.names(), set(before))
        for name, data in before.items():
            self.assertEqual(harness.read_at(self.path(name), 0, 2 * MiB), data, name)

    def test_a_source_that_somebody_writes_is_refused(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        self.refused(QCOWFS, "convert", image, self.path("target"), names=[image], says="in use")
        daemon.unmount()
        self.convert(image, self.path("target"))

    def test_a_damaged_source_leaves_no_target(self):
        raw = self.write("raw", content.text(LONG_ENOUGH, 1))
        image = self.path("image")
        run("qemu-img", "convert", "-c", "-O", "qcow2", raw, image)
        harness.write_at(image, os.path.getsize(image) // 2, bytes(64 * KiB))
        before = self.names()
        for options in ([], ["-O", "raw"]):
            self.refused(QCOWFS, "convert", *options, image, self.path("target"), names=[image], says="damaged")
        done = subprocess.run([QCOWFS, "convert", image, "-"], capture_output=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.names(), before)

    def test_a_full_host_leaves_no_target(self):
        if os.geteuid() != 0:
            self.lacks("a small file system needs root")
        small = self.path("small")
        os.mkdir(small)
        run("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small)
        self.addCleanup(run, "umount", small)
        raw = self.write("raw", content.noise(8 * MiB, 1))
        for options in ([], ["-O", "raw"]):
            target = os.path.join(small, "target")
            self.refused(QCOWFS, "convert", *options, raw, target, names=[target], says="no space")
            self.assertEqual(os.listdir(small), [])

    def test_an_interrupted_conversion_leaves_nothing(self):
        before = self.names()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for options in ([], ["-O", "raw"]):
                with self.subTest(signal=number, options=options):
                    with subprocess.Popen([QCOWFS, "convert", *options, "-", self.path("target")],
                                          stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                        process.stdin.write(content.noise(5 * MiB, 1))
                        process.stdin.flush()
                        harness.wait_for(lambda: self.names() != before, 20)
                        process.send_signal(number)
                        process.stdin.close()
                        self.assertEqual(process.wait(20), -number)
                        self.assertEqual(process.stderr.read(), b"")
                    self.assertEqual(self.names(), before)

    def test_nothing_is_overwritten_that_appears_meanwhile(self):
        target = self.path("target")
        with subprocess.Popen([QCOWFS, "convert", "-", target], stdin=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            harness.wait_for(self.names, 20)
            self.write("target", b"precious")
            process.stdin.write(content.noise(MiB, 1))
            process.stdin.close()
            self.assertEqual(process.wait(20), 1)
            self.assertRegex(process.stderr.read().decode(), r"^qcowfs: .*target: already exists.*\n$")
        self.assertEqual(harness.read_at(target, 0, 100), b"precious")
        self.assertEqual(self.names(), {"target"})


class Compare(VerbCase):
    def compare(self, *arguments):
        return run(QCOWFS, "compare", *arguments, expect=None)

    def as_qemu(self, *arguments):
        """The status of ours, which is that of qemu-img's, with the same words."""
        ours = self.compare(*arguments)
        theirs = run("qemu-img", "compare", *arguments, expect=None)
        with self.subTest(arguments=arguments):
            self.assertEqual(ours.returncode, theirs.returncode, ours.stdout + ours.stderr + theirs.stderr)
            if theirs.returncode == 0:
                self.assertEqual(ours.stdout, theirs.stdout)
            self.assertEqual(ours.stderr == "", theirs.stderr == "", ours.stderr)
        return ours

    def test_equal_disks(self):
        raw = self.write("raw", content.mixed(LONG_ENOUGH + 512, 1))
        image = self.convert(raw, self.path("image"))
        other = self.convert(raw, self.path("other"), "--compression", "zstd", "--cluster-size", "2M")
        for pair in ((raw, raw), (raw, image), (image, raw), (image, other), (other, other),
                     ("-f", "raw", "-F", "qcow2", raw, image)):
            self.assertEqual(self.as_qemu(*pair).returncode, 0)

    def test_the_first_differing_byte_is_said(self):
        data = bytearray(content.mixed(LONG_ENOUGH, 2))
        raw = self.write("raw", data)
        for places in ([0], [511], [LONG_ENOUGH - 1], [MiB + 7, MiB + 8, 2 * MiB], [70000, 70001]):
            with self.subTest(places=places):
                changed = bytearray(data)
                for place in places:
                    changed[place] ^= 1
                other = self.write("other", changed)
                image = self.path("image")
                self.convert(other, image)
                for pair in ((raw, other), (raw, image), (image, raw)):
                    self.assertEqual(self.as_qemu(*pair).stdout, f"Content mismatch at offset {places[0]}!\n")
                os.unlink(image)

    def test_the_rest_of_the_longer_one_must_be_zeros(self):
        short = self.write("short", content.text(MiB, 1))
        zeros = self.write("zeros", content.text(MiB, 1) + bytes(3 * MiB))
        hole = content.write_sparse_file(self.path("hole"), 300 * MiB, [(0, content.text(MiB, 1))])
        more = self.write("more", content.text(MiB, 1) + bytes(3 * MiB) + b"x" + bytes(511))
        image = self.convert(zeros, self.path("image"))
        for left, right in ((short, zeros), (zeros, short), (short, hole), (image, short), (hole, image)):
            self.assertEqual(self.as_qemu(left, right).returncode, 0)
            self.assertEqual(self.as_qemu("-s", left, right).stdout, "Strict mode: Image size mismatch!\n")
        for left, right in ((short, more), (more, image), (more, hole)):
            done = self.as_qemu(left, right)
            self.assertIn(f"Content mismatch at offset {4 * MiB}!\n", done.stdout)

    def strict_pairs(self):
        """(left, right) of one size: QEMU reports the last piece of both from the same place on."""
        data = content.text(3 * MiB, 1)
        raw = self.write("raw", data)
        hole = content.write_sparse_file(self.path("hole"), 4 * MiB, [(0, data)])
        images = {"hole": hole}
        for name, source, options in [("standard", hole, []), ("again", hole, []), ("compressed", hole, ["-c"]),
                                      ("zstd", hole, ["-c", "-o", "compression_type=zstd"]),
                                      ("metadata", hole, ["-o", "preallocation=metadata"])]:
            images[name] = self.path(f"{name}.qcow2")
            run("qemu-img", "convert", "-O", "qcow2", *options, source, images[name])
        images["ours"] = self.convert(hole, self.path("ours.qcow2"))
        images["zero"] = self.path("zero.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", hole, images["zero"])
        run("qemu-io", "-c", "write -z 3M 1M", images["zero"])
        images["subclusters"] = self.path("subclusters.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "-b", raw, "-F", "raw",
            images["subclusters"], 4 * MiB)
        part = self.write("part", data[MiB:MiB + 2 * KiB])
        run("qemu-io", "-c", f"write -s {part} 1M 2k", images["subclusters"])
        for name, below in (("over", "standard"), ("far over", "over"), ("over compressed", "compressed")):
            images[name] = self.path(f"{name}.qcow2")
            run("qemu-img", "create", "-q", "-f", "qcow2", "-b", images[below], "-F", "qcow2", images[name])
        images["over raw"] = self.path("over raw.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", hole, "-F", "raw", images["over raw"])
        images["longer over"] = self.path("longer over.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", images["longer over"], 4 * MiB)
        images["other"] = self.path("other.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", self.write("changed", data[:2 * MiB] + b"!" + data[2 * MiB + 1:]
                                                             + bytes(MiB)), images["other"])
        full = [self.write("full", data + bytes(MiB)), self.path("full.qcow2"), self.path("reserved.qcow2")]
        run("qemu-img", "convert", "-O", "qcow2", "-S", "0", full[0], full[1])
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=falloc", full[2], 4 * MiB)
        return [*itertools.product(images.values(), repeat=2), *itertools.product(full, repeat=2)]

    def test_strict(self):
        seen = set()
        for left, right in self.strict_pairs():
            ours = self.as_qemu("-s", left, right)
            place = re.search(r"offset (\d+)", ours.stdout, re.IGNORECASE)
            theirs = run("qemu-img", "compare", "-s", left, right, expect=None).stdout
            with self.subTest(left=left, right=right):
                self.assertEqual(bool(place), "ffset" in theirs)
                if place:
                    self.assertEqual(place.group(1), re.search(r"ffset (\d+)", theirs).group(1))
                    self.assertEqual("Strict" in ours.stdout, "Strict" in theirs)
            seen.add((ours.returncode, ours.stdout.startswith("Strict")))
        self.assertEqual(seen, {(0, False), (1, False), (1, True)})

    def test_strict_says_what_is_where(self):
        left = self.create_by_qemu(MiB, name="left")
        right = self.create_by_qemu(MiB, name="right")
        run("qemu-io", "-c", "write -z 512k 64k", right)
        self.assertEqual(self.as_qemu("-s", left, right).stdout,
                         "Strict mode: at offset 524288 the first image has nothing, the second zeros!\n")
        run("qemu-io", "-c", "write -P 0 256k 64k", left)
        self.assertEqual(self.as_qemu("-s", left, right).stdout,
                         "Strict mode: at offset 262144 the first image has data, the second nothing!\n")
        run("qemu-io", "-c", "write -P 0 128k 64k", left)
        run("qemu-io", "-c", "write -P 1 128k 64k", right)
        self.assertEqual(self.as_qemu("-s", left, right).stdout, "Content mismatch at offset 131072!\n")

    def test_strict_looks_at_what_is_allocated_not_at_how_it_is_reported(self):
        # QEMU compares the end of the disk too, as a flag of the last piece that it reports: where data lies in one
        # piece in one image and in several in the other, its strict mode finds them different.
        raw = self.write("raw", content.noise(MiB, 1))
        large = self.path("large")
        small = self.path("small")
        run("qemu-img", "convert", "-O", "qcow2", raw, large)
        run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=512", raw, small)
        self.assertEqual(run("qemu-img", "compare", "-s", large, small, expect=1).stdout,
                         "Strict mode: Offset 0 block status mismatch!\n")
        self.assertEqual(self.compare("-s", large, small).stdout, "Images are identical.\n")

    def test_strict_where_it_cannot_be_found_out(self):
        left = self.create_by_qemu(2 << 30, name="left")
        right = self.create_by_qemu(2 << 30, name="right")
        for image in (left, right):
            run("qemu-io", "-c", "write -P 1 0 64k", "-c", "write -P 1 1G 64k", image)
        l1_table = int.from_bytes(harness.read_at(left, 40, 8), "big")
        l2_table = int.from_bytes(harness.read_at(left, l1_table + 16, 8), "big") & ((1 << 56) - 512)
        harness.write_at(left, l2_table, (0x50001 << 9).to_bytes(8, "big"))
        done = self.refused(QCOWFS, "compare", "-s", left, right, names=[left])
        self.assertEqual(done.returncode, 3)
        self.as_qemu("-s", left, right)
        run("qemu-io", "-c", "write -P 2 0 512", right)
        self.assertEqual(self.as_qemu("-s", left, right).stdout, "Content mismatch at offset 0!\n")
        run("qemu-io", "-c", "write -P 1 0 512", "-c", "write -z 64k 64k", right)
        self.assertIn("at offset 65536 ", self.as_qemu("-s", left, right).stdout)
        done = run(QCOWFS, "map", left, expect=1)
        self.assertRegex(done.stdout, r"(?m)^0 +0x10000 +standard +0x50000$")

    def test_holes_against_holes_cost_nothing(self):
        size = 8 << 40
        images = [self.create_by_qemu(size, "cluster_size=2M", name=name) for name in ("one", "other")]
        run("qemu-io", "-c", f"write -P 7 {size - 4 * MiB} 1k", images[0])
        self.assertIn(f"offset {size - 4 * MiB}!", self.as_qemu(*images).stdout)

    def test_exit_statuses_of_failures(self):
        raw = self.write("raw", content.text(MiB, 1))
        missing = self.path("missing")
        for arguments in ((missing, raw), (raw, missing), ("-F", "qcow2", raw, raw), (raw,), (raw, raw, raw)):
            done = self.refused(QCOWFS, "compare", *arguments)
            self.assertEqual(done.returncode, 2)
        image = self.path("image")
        run("qemu-img", "convert", "-c", "-O", "qcow2", self.write("data", content.text(LONG_ENOUGH, 1)), image)
        harness.write_at(image, os.path.getsize(image) // 2, bytes(64 * KiB))
        # Part of the damage decodes to something else: that difference comes before what cannot be read.
        self.assertEqual(self.as_qemu(image, self.path("data")).returncode, 1)
        harness.write_at(image, 0x50000, b"\xff" * (os.path.getsize(image) - 0x50000))
        done = self.refused(QCOWFS, "compare", image, self.path("data"), names=[image], says="damaged")
        self.assertEqual(done.returncode, 4)
        self.assertEqual(self.as_qemu(image, self.path("data")).returncode, 4)


class Map(VerbCase):
    def as_qemu(self, image, *options):
        """The extents of ours, which are qemu-img's."""
        # Both guess from what the file takes whether there are holes in it, which writing it back changes a little.
        run("sync", "-f", image)
        ours = json.loads(run(QCOWFS, "map", "--json", *options, image).stdout)
        theirs = json.loads(run("qemu-img", "map", "-f", "qcow2", "--output=json", image).stdout)
        with self.subTest(image=image):
            known = set().union(*theirs)  # older versions do not say what is compressed
            self.assertEqual([{key: value for key, value in extent.items() if key in known} for extent in ours], theirs)
        return ours

    def test_everything_a_cluster_can_be(self):
        for options in ("cluster_size=64k", "cluster_size=512", "cluster_size=2M", "compat=0.10",
                        "compression_type=zstd,cluster_size=4k", "refcount_bits=1,cluster_size=1k"):
            image = self.create_by_qemu(20 * MiB + 512, options, name=f"{options}.qcow2")
            commands = ["write -P 1 0 1M", "write -c -P 2 4M 2M", "write -P 3 8M 3M", "write -P 4 20M 512",
                        "write -P 6 15M 4k", "discard 9M 1M", "flush"]
            if "0.10" not in options:
                commands += ["write -z 6M 1M", "write -z 10M 1M", "write -z -u 0 512k"]
            for command in commands:
                run("qemu-io", "-c", command, image, expect=None)  # QEMU does not pad compressed clusters everywhere
            extents = self.as_qemu(image)
            self.assertEqual(sum(extent["length"] for extent in extents), 20 * MiB + 512)
            self.assertTrue(any(extent["compressed"] for extent in extents) or "2M" in options)

    def test_reserved_clusters_that_the_file_has_no_bytes_for(self):
        for preallocation in ("off", "metadata", "falloc"):
            image = self.create_by_qemu(8 * MiB, f"preallocation={preallocation}", name=f"{preallocation}.qcow2")
            self.as_qemu(image)
            run("qemu-io", "-c", "write -P 1 1M 4k", "-c", "write -P 1 3M 100k", image)
            self.as_qemu(image)

    def test_images_of_ours(self):
        raw = self.write("raw", content.mixed(LONG_ENOUGH, 1) + bytes(5 * MiB) + content.noise(MiB + 1000, 2))
        for options in ([], ["--compression", "zstd", "--cluster-size", "2M"], ["--cluster-size", "512"]):
            self.as_qemu(self.convert(raw, self.path(f"image-{self.next_number()}"), *options))
        for size in (0, 512, 3 << 40):
            self.as_qemu(self.create(size, name=f"empty-{size}"))

    def derive(self, backing, name, size=None, options="", backing_format="qcow2"):
        """A new image over `backing`, as long as that where nothing else is said."""
        image = self.path(name)
        sizes = [] if size is None else [size]
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format,
            *(["-o", options] if options else []), image, *sizes)
        return image

    def change(self, image, *commands):
        """Some of what QEMU's shell is told may fail: it does not pad compressed clusters everywhere."""
        run("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), image, expect=None)

    def test_chains_of_three(self):
        base = self.create_by_qemu(20 * MiB, "cluster_size=4k", name="base")
        self.change(base, "write -P 1 0 2M", "write -c -P 2 4M 64k", "write -z 8M 1M", "write -P 3 12M 100k")
        middle = self.derive(base, "middle", options="cluster_size=2M,extended_l2=on")
        self.change(middle, "write -P 4 1M 512", "write -c -P 5 6M 2M", "write -z -u 12M 2M")
        top = self.derive(middle, "top", options="cluster_size=512")
        self.change(top, "write -P 6 700k 512", "write -z 6M 1M", "write -P 7 12M 64k", "discard 0 64k")
        extents = self.as_qemu(top)
        self.assertEqual({extent["depth"] for extent in extents}, {0, 1, 2})
        self.assertTrue(any(extent["compressed"] and extent["depth"] == 1 for extent in extents))
        self.as_qemu(middle)

    def test_shorter_and_longer_backing_files(self):
        base = self.create_by_qemu(6 * MiB, name="base")
        self.change(base, "write -P 1 1M 64k", "write -P 1 5M 1M")
        for size in (512, 2 * MiB + 512, 6 * MiB, 20 * MiB):
            middle = self.derive(base, f"middle-{size}", size)
            self.change(middle, f"write -P 2 {size // 1024 * 512} 512")
            for more in (0, 512, 5 * MiB):
                self.as_qemu(self.derive(middle, f"top-{size}-{more}", size + more))

    def test_raw_backing_files_and_their_holes(self):
        size = 10 * MiB
        noise = content.noise(MiB + 1000, 1)
        for name, length, extents in [("full", size, [(0, bytes(size))]), ("hole", size, []),
                                      ("both", size, [(MiB, noise), (5 * MiB + 4096, noise)]), ("empty", 0, []),
                                      ("odd", MiB + 1000, [(0, noise)]), ("odd-hole", 8 * MiB + 77, [(0, noise)])]:
            raw = content.write_sparse_file(self.path(name), length, extents)
            for image in (self.derive(raw, f"{name}.same", backing_format="raw"),
                          self.derive(raw, f"{name}.top", 12 * MiB, backing_format="raw")):
                self.as_qemu(image)
                self.change(image, "write -P 1 512k 64k", "write -z 1M 64k", "write -P 2 6M 64k")
                self.as_qemu(image)

    def test_reserved_clusters_below(self):
        for preallocation in ("metadata", "falloc"):
            base = self.create_by_qemu(8 * MiB, f"preallocation={preallocation}", name=f"{preallocation}.base")
            self.change(base, "write -P 1 3M 100k")
            top = self.derive(base, f"{preallocation}.top")
            self.change(top, "write -P 2 1M 64k", "write -z 4M 1M")
            self.as_qemu(top)

    def test_any_chain(self):
        for seed in range(harness.scaled(20, 5)):
            self.as_qemu(self.any_chain(random.Random(seed), f"chain-{seed}"))

    def any_chain(self, source, name):
        """The top of a chain of images with anything in them, of any sizes, over a raw file or over nothing."""
        sizes = [source.choice([1, 2, 3, 5]) * MiB + source.choice([0, 512 * source.randrange(200)]) for _ in range(4)]
        files = [self.path(f"{name}.{depth}") for depth in range(source.randrange(2, 4))]
        if source.randrange(2) == 0:
            extents = [(source.randrange(sizes[0] - 4096), content.noise(4096, number)) for number in range(4)]
            content.write_sparse_file(files[0], sizes[0] + source.randrange(512), extents)
            self.derive(files[0], files[1], backing_format="raw")
        else:
            self.create_by_qemu(sizes[0], f"cluster_size={source.choice(['512', '4k', '64k'])}", name=files[0])
            cluster_size = source.choice(["512", "8k", "2M,extended_l2=on"])
            self.derive(files[0], files[1], sizes[1], f"cluster_size={cluster_size}")
        self.change(files[0] if len(files) > 2 else files[1], *self.any_changes(source, sizes[0]))
        if len(files) > 2:
            self.derive(files[1], files[2], sizes[2], f"extended_l2={source.choice(['on', 'off'])}")
            self.change(files[2], *self.any_changes(source, sizes[2]))
        return files[-1]

    def any_changes(self, source, size):
        for _ in range(source.randrange(6)):
            at = source.randrange(size // 512) * 512
            length = min(source.randrange(1, 1000) * 512, size - at)
            yield source.choice(["write -P 1", "write -z", "write -z -u", "discard"]) + f" {at} {length}"
            yield f"write -c -P 2 {at // MiB * MiB} 64k"

    def test_backing_files_are_as_safe_as_on_a_mount(self):
        raw = self.write("raw", content.text(MiB, 1))
        os.mkdir(self.path("elsewhere"))
        far = self.derive(raw, "elsewhere/far", backing_format="raw")
        self.refused(QCOWFS, "map", far, names=[far, raw], says=f"backing_dir={self.folder} allows it")
        self.as_qemu(far, "-o", f"backing_dir={self.folder}")
        near = self.derive(raw, "near", backing_format="raw")
        self.refused(QCOWFS, "map", "-o", "backing=off", near, names=[near, raw], says="backing=off")
        unnamed = self.derive(raw, "unnamed", backing_format="raw")
        header = harness.read_at(unnamed, 0, 512)
        harness.write_at(unnamed, header.index(bytes.fromhex("e2792aca")), b"\0\0\0\1")  # no format is said any more
        self.refused(QCOWFS, "map", unnamed, names=[unnamed, raw], says="backing_format=")
        extents = json.loads(run(QCOWFS, "map", "--json", "-o", "backing_format=raw", unnamed).stdout)
        self.assertEqual(extents[0]["depth"], 1)
        other = self.derive(near, "other")
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", other, "-F", "qcow2", near)
        self.refused(QCOWFS, "map", near, names=[near, other], says="derived from it")
        os.unlink(raw)
        self.refused(QCOWFS, "map", unnamed, "-o", "backing_format=raw", names=[unnamed, raw], says="no such file")
        self.assertEqual(self.refused(QCOWFS, "map", "-o", "ro", unnamed, says="only for a mount").returncode, 2)

    def test_for_people_which_file_has_the_bytes(self):
        raw = content.write_sparse_file(self.path("raw"), 10 * MiB, [(0, content.text(MiB, 1))])
        image = self.derive(raw, "image", 12 * MiB, backing_format="raw")
        self.change(image, "write -P 1 0 64k", "write -c -P 2 4M 64k", "write -z 6M 64k")
        text = run(QCOWFS, "map", image).stdout
        self.assertRegex(text, rf"(?m)^0 +0x10000 +standard +0x50000 +{image}$")
        self.assertRegex(text, rf"(?m)^0x10000 +0xf0000 +standard +0x10000 +{raw}$")
        self.assertRegex(text, rf"(?m)^0x400000 +0x10000 +compressed +{image}$")
        self.assertRegex(text, rf"(?m)^0x600000 +0x10000 +zero +{image}$")
        self.assertRegex(text, rf"(?m)^0x610000 +0x3f0000 +zero +0x610000 +{raw}$")
        self.assertNotIn("0xa00000", text)
        self.assertIn("65536 bytes are compressed to 512\n", text)

    def test_for_people(self):
        image = self.create_by_qemu(10 * MiB)
        run("qemu-io", "-c", "write -P 1 0 1M", "-c", "write -c -P 2 4M 64k", "-c", "write -z 6M 1M", image)
        text = run(QCOWFS, "map", image).stdout
        self.assertRegex(text, r"(?m)^0 +0x100000 +standard +0x50000$")
        self.assertRegex(text, r"(?m)^0x400000 +0x10000 +compressed$")
        self.assertRegex(text, r"(?m)^0x600000 +0x100000 +zero$")
        self.assertNotIn("\033", text)
        status, text = at_a_terminal(QCOWFS, "map", image)
        self.assertEqual(status, 0)
        self.assertIn("\033[34m█", text)
        self.assertIn("metadata", text)

    def test_what_it_refuses(self):
        raw = self.write("raw", content.text(MiB, 1))
        self.refused(QCOWFS, "map", raw, names=[raw], says="not a qcow2")
        self.refused(QCOWFS, "map", self.path("missing"), names=["missing"], says="no such file")
        self.assertEqual(self.refused(QCOWFS, "map").returncode, 2)
        image = self.create(MiB)
        overlay = self.derive(image, "overlay")
        daemon = self.mount(image)
        for name in (image, overlay):
            self.refused(QCOWFS, "map", name, names=[image], says="in use")
        daemon.unmount()
        run("qemu-io", "-c", "write 0 64k", image)
        l1_table = int.from_bytes(harness.read_at(image, 40, 8), "big")
        l2_table = int.from_bytes(harness.read_at(image, l1_table, 8), "big") & ((1 << 56) - 512)
        harness.write_at(image, l2_table, (0x50001 << 9).to_bytes(8, "big"))
        self.refused(QCOWFS, "map", image, names=[image], says="not aligned")


class Answers(VerbCase):
    def test_a_full_stdout_is_told(self):
        image = self.create(MiB)
        for command in (["--help"], ["--version"], ["info", image], ["check", image], ["map", image],
                        ["map", "--json", image], ["snapshot", "list", "--json", image], ["compare", image, image]):
            self.refused("sh", "-c", 'exec "$@" >/dev/full', "sh", QCOWFS, *command, says="writing to stdout")


class Preallocation(VerbCase):
    HOWS = ("metadata", "falloc", "full")

    def preallocate(self, how, size, *options):
        return self.create(size, "--preallocation", how, *options, name=f"{how}-{self.next_number()}")

    def test_an_empty_disk_all_of_whose_clusters_are_there(self):
        for size, options in ((64 * MiB, []), (3 * MiB + 512, ["--cluster-size", "512"]), (0, []), (512, ["--v2"]),
                              (5 * MiB, ["--extended-l2", "--cluster-size", "16k"]),
                              (50 * MiB, ["--cluster-size", "2M", "--refcount-bits", "1", "--compression", "zstd"])):
            for how in self.HOWS:
                with self.subTest(how=how, size=size, options=options):
                    image = self.preallocate(how, size, *options)
                    self.judge(image, self.twin(size))
                    self.assertEqual(run(QCOWFS, "check", image).returncode, 0)
                    extents = json.loads(run("qemu-img", "map", "--output=json", image).stdout)
                    self.assertEqual(all(extent["present"] and extent["data"] for extent in extents), size != 0)
                    self.assertEqual(extents[-1].get("offset", 0) - extents[-1]["start"], extents[0].get("offset", 0))

    def test_what_it_takes_of_the_host(self):
        size = 64 * MiB
        taken = {how: os.stat(self.preallocate(how, size)).st_blocks * 512 for how in self.HOWS}
        self.assertLess(taken["metadata"], MiB)
        self.assertGreaterEqual(taken["falloc"], size)
        self.assertGreaterEqual(taken["full"], size)
        empty = self.create(size, "--preallocation", "off")
        self.assertFalse(json.loads(run("qemu-img", "map", "--output=json", empty).stdout)[0]["present"])

    def test_what_is_written_is_compressed_and_frees_its_cluster(self):
        for options in ([], ["--cluster-size", "4k", "--compression", "zstd"], ["--cluster-size", "2M", "--v2"],
                        ["--extended-l2"]):
            taken = {how: self.space_taken_when_full_of_text(how, options) for how in ("off", *self.HOWS)}
            for how in self.HOWS:
                self.assertLess(taken[how], taken["off"] * 11 // 10, taken)

    def space_taken_when_full_of_text(self, how, options):
        size = 8 * MiB
        data = content.text(size, 1)
        image = self.preallocate(how, size, *options)
        twin = self.twin(size)
        daemon = self.mount(image)
        for path in (daemon.disk, twin):
            harness.write_at(path, 3 * MiB + 1000, data[:100000])
            harness.write_at(path, 5 * MiB, content.noise(MiB, 2))
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)
        daemon = self.mount(image)
        for path in (daemon.disk, twin):
            harness.write_at(path, 0, data)
        daemon.unmount()
        self.judge(image, twin)
        extents = json.loads(run(QCOWFS, "map", "--json", image).stdout)
        self.assertTrue(all(extent["compressed"] for extent in extents), extents)
        return os.stat(image).st_blocks * 512

    def test_qemu_can_use_it(self):
        for how in self.HOWS:
            image = self.preallocate(how, 8 * MiB)
            run("qemu-io", "-c", "write -P 7 1M 100k", "-c", "read -P 7 1M 100k", "-c", "read -P 0 2M 6M", image)
            self.check(image)

    def test_a_large_disk(self):
        image = self.preallocate("metadata", 1 << 40)
        self.assertLess(os.stat(image).st_blocks * 512, 200 * MiB)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 700 << 30, b"x" * 512)
        daemon.unmount()
        self.check(image)
        done = run("qemu-io", "-r", "-c", "read -P 120 700G 512", "-c", "read -P 0 699G 1M", image)
        self.assertNotIn("failed", done.stdout)

    def test_what_it_refuses(self):
        target = self.path("target")
        create = (QCOWFS, "create", "--preallocation")
        base = self.create(MiB, name="base")
        for how in self.HOWS:
            self.refused(*create, how, "--backing", "base", "--backing-format", "qcow2", target, says="backing file")
            self.refused(*create, how, base, "1M", names=[base], says="exists")
            self.refused(*create, how, self.path("no/folder"), "1M", names=["no/folder"], says="no such file")
        run(*create, "off", "--backing", "base", "--backing-format", "qcow2", self.path("overlay"))
        self.assertEqual(self.refused(*create, "some", target, "1M", says="expected off, metadata").returncode, 2)
        self.refused(*create, "metadata", "--cluster-size", "512", target, "127G", says="too large")
        self.assertEqual(self.names(), {"base", "overlay"})

    def small_file_system(self, kind, options):
        if os.geteuid() != 0:
            self.lacks("a small file system needs root")
        folder = self.path(kind)
        os.mkdir(folder)
        run("mount", "-t", kind, "-o", options, kind, folder)
        self.addCleanup(run, "umount", folder)
        return folder

    def test_a_full_host_leaves_nothing(self):
        folder = self.small_file_system("tmpfs", "size=3m")
        image = os.path.join(folder, "image")
        for how, size in (("falloc", "8M"), ("full", "8M"), ("metadata", "1T")):
            self.refused(QCOWFS, "create", "--preallocation", how, image, size, names=[image + ":"], says="no space")
            self.assertEqual(os.listdir(folder), [])

    def test_where_space_cannot_be_set_aside_zeros_are_written(self):
        image = os.path.join(self.small_file_system("ramfs", "mode=700"), "image")
        run(QCOWFS, "create", "--preallocation", "falloc", image, "3M")
        self.assertGreaterEqual(os.stat(image).st_blocks * 512, 3 * MiB)
        self.check(image)

    def test_an_interrupt_leaves_nothing_but_a_bar_was_there(self):
        master, terminal = pty.openpty()
        with subprocess.Popen([QCOWFS, "create", "--preallocation", "metadata", "--cluster-size", "4k",
                               self.path("image"), "4T"], stderr=terminal) as process:
            os.close(terminal)
            said = b""
            while b"MiB/s" not in said:
                said += os.read(master, 4096)
            self.assertRegex(said.decode(), r"\d % \[")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(60), -signal.SIGINT)
        os.close(master)
        self.assertEqual(self.names(), set())


class Progress(VerbCase):
    def test_a_bar_at_a_terminal_and_nothing_elsewhere(self):
        data = content.noise(MiB, 1)
        slowly = f"for i in 1 2 3 4 5 6 7 8; do cat '{self.write('piece', data)}'; sleep 0.3; done"
        status, text = at_a_terminal("sh", "-c", f"({slowly}) | '{QCOWFS}' convert - '{self.path('image')}'")
        self.assertEqual(status, 0)
        self.assertRegex(text, r"MiB/s")
        self.assertTrue(text.endswith("\r\033[K"), text)
        done = run("sh", "-c", f"({slowly}) | '{QCOWFS}' convert - '{self.path('other')}'")
        self.assertEqual((done.stdout, done.stderr), ("", ""))


def at_a_terminal(*command):
    """(exit status, what it says) of a command whose stdout and stderr are a terminal."""
    master, terminal = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        said = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # EIO: nobody has it open any more
                break
            if not piece:
                break
            said += piece
        os.close(master)
        return process.wait(30), said.decode()


if __name__ == "__main__":
    harness.main()
