#!/usr/bin/env -S python3 -B
"""`qcowfs check` judges as qemu-img check does: hundreds of images of every kind, damaged at random, and the few cases
in which it judges otherwise and why. With --data it also finds every compressed cluster that cannot be read."""

import collections
import json
import os
import shutil
import struct

import content
import damage
import harness
from damage import COMPRESSED, COPIED, OFFSET_MASK
from harness import KiB, MiB, QCOWFS, run, scaled

FIGURES = ("check-errors", "corruptions", "leaks", "image-end-offset", "total-clusters", "allocated-clusters",
           "fragmented-clusters", "compressed-clusters")


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def verdict_of_qemu(image):
    done = run("qemu-img", "check", "-f", "qcow2", "--output=json", image, expect=None)
    return Verdict.parse(done)


class Verdict(collections.namedtuple("Verdict", ["status", "figures", "text"])):
    """Exit status and figures; no figures where the check could not be done."""

    @classmethod
    def parse(cls, done):
        figures = None
        if done.stdout.startswith("{"):
            answer = json.loads(done.stdout)
            figures = {key: answer.get(key, 0) for key in FIGURES}
        return cls(done.returncode, figures, done.stdout + done.stderr)


class CheckCase(harness.MountCase):
    def verdict(self, image, *options):
        done = run(QCOWFS, "check", "--json", *options, image, expect=None)
        self.assertIn(done.returncode, (0, 1, 2, 3), done.stderr)
        self.assertLessEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return Verdict.parse(done)

    def must_agree(self, image, what=""):
        ours, theirs = self.verdict(image), verdict_of_qemu(image)
        text = f"{what}\nours: {ours.status} {ours.text}\nQEMU's: {theirs.status} {theirs.text[:3000]}"
        self.assertEqual(ours.status, theirs.status, text)
        self.assertEqual(ours.figures, theirs.figures, text)
        return theirs

    def compressed(self, options, name, size=2 * MiB):
        """Compressed by qemu-img: zlib or zstd, clusters of any size."""
        raw = content.write_file(self.path("source.raw"), content.mixed(size, name))
        image = self.path(name + ".qcow2")
        run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, raw, image)
        return image

    def written(self, options, name, *commands):
        """Made and written by QEMU, 4 MiB."""
        image = self.create_by_qemu(4 * MiB, options, name + ".qcow2")
        arguments = [word for command in commands for word in ("-c", command)]
        run("qemu-io", "-f", "qcow2", *arguments, image)
        return image

    def snapshots(self, image, *commands):
        """A snapshot before each command."""
        for number, command in enumerate(commands):
            run("qemu-img", "snapshot", "-c", f"snapshot {number}", image)
            run("qemu-io", "-f", "qcow2", "-c", command, image)
        return image

    def rewritten(self, name, *options):
        """Written and overwritten through a mount: fragments packed tightly, shared host clusters."""
        image = self.create(4 * MiB, *options, name=name + ".qcow2")
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, content.mixed(3 * MiB, name))
        harness.fsync(daemon.disk)
        for number in range(20):
            harness.write_at(daemon.disk, number * 150001, content.text(30000, number))
        daemon.unmount()
        return image

    def with_bitmaps(self, options, name):
        image = self.create_by_qemu(64 * MiB, options, name + ".qcow2")
        for number in range(2):
            run("qemu-img", "bitmap", "--add", "-g", "512", image, f"bitmap{number}")
        run("qemu-io", "-f", "qcow2", "-c", "write 0 300k", "-c", "write 40m 64k", image)
        return image

    def all_kinds(self):
        """One image of each kind."""
        writes = ("write -P 1 0 700k", "write -P 2 1m 512", "write -z 512k 256k", "discard 128k 128k")
        plain = [
            ("v2", "compat=0.10"), ("v2-512", "compat=0.10,cluster_size=512"), ("v3", "cluster_size=64k"),
            ("v3-512-1bit", "cluster_size=512,refcount_bits=1"), ("v3-4k-64bit", "cluster_size=4k,refcount_bits=64"),
            ("v3-1k-2bit", "cluster_size=1k,refcount_bits=2"), ("v3-32bit", "cluster_size=16k,refcount_bits=32"),
            ("lazy", "lazy_refcounts=on"), ("preallocated", "preallocation=metadata,cluster_size=4k"),
            ("v3-2m", "cluster_size=2m"), ("extended", "extended_l2=on"),
            ("extended-16k", "extended_l2=on,cluster_size=16k"), ("data-file", f"data_file={self.path('data.raw')}"),
        ]
        images = {name: self.written(options, name, *writes) for name, options in plain}
        for name, options in [("zlib", "cluster_size=64k"), ("zstd", "compression_type=zstd"),
                              ("zlib-512", "cluster_size=512"), ("zlib-4k-8bit", "cluster_size=4k,refcount_bits=8"),
                              ("v2-zlib", "compat=0.10"), ("extended-zstd", "extended_l2=on,compression_type=zstd")]:
            images[name] = self.compressed(options, name)
        for name, options in [("snapshots", "cluster_size=4k"), ("v2-snapshots", "compat=0.10,cluster_size=1k")]:
            images[name] = self.snapshots(self.written(options, name, *writes), "write 0 8k", "write -P 9 300k 70k")
        images["zlib-snapshots"] = self.snapshots(self.compressed("cluster_size=16k", "zlib-snapshots"),
                                                  "write 0 8k", "write -z 100k 60k")
        images["extended-snapshots"] = self.snapshots(self.written("extended_l2=on", "extended-snapshots", *writes),
                                                      "write 0 8k", "write 300k 70k")
        images["rewritten"] = self.rewritten("rewritten")
        images["rewritten-zstd"] = self.rewritten("rewritten-zstd", "--compression", "zstd", "--cluster-size", "4k")
        images["rewritten-512"] = self.rewritten("rewritten-512", "--cluster-size", "512")
        images["bitmaps"] = self.with_bitmaps("cluster_size=64k", "bitmaps")
        images["bitmaps-512"] = self.with_bitmaps("cluster_size=512", "bitmaps-512")
        return images


def differs_on_purpose(image):
    """Whether the image is one of those in DIFFERENCES: an L1 table, as the header now has it, names no table by flags
    alone."""
    parsed = damage.Image(image)
    for at, size in parsed.l1_tables:
        for entry in range(at, at + 8 * size, 8):
            if parsed.word(entry) and not parsed.word(entry) & OFFSET_MASK:
                return True
    return False


class Agreement(CheckCase):
    def test_sound_images_of_every_kind(self):
        for name, image in self.all_kinds().items():
            with self.subTest(name=name):
                before = read_file(image)
                self.assertEqual(self.must_agree(image).status, 0)
                self.assertEqual(self.verdict(image, "--data").status, 0)
                self.assertEqual(read_file(image), before)

    def test_damaged_images_of_every_kind(self):
        images = {name: read_file(path) for name, path in self.all_kinds().items()}
        seeds = range(scaled(20, 3))
        statuses = collections.Counter()
        for name, sound in images.items():
            for seed in seeds:
                damager = damage.Damager(damage.Image(sound), f"{name} {seed}")
                for _ in range(damager.random.choice([1, 1, 2, 4])):
                    damager.damage()
                if differs_on_purpose(damager.image.data):
                    statuses["left out"] += 1
                    continue
                path = content.write_file(self.path("damaged.qcow2"), damager.image.data)
                with self.subTest(name=name, seed=seed):
                    statuses[self.must_agree(path, "\n".join(damager.log)).status] += 1
        print(f"by exit status of qemu-img: {dict(statuses)}")
        damaged = sum(statuses[status] for status in (1, 2, 3))
        self.assertGreater(damaged, len(images) * len(seeds) // 2)
        for status in (1, 2, 3):
            self.assertGreater(statuses[status], 0, status)
        self.assertLess(statuses["left out"], len(images) * len(seeds) // 20)


class Repairs(CheckCase):
    """`check --repair`: both programs call the image sound afterwards, and whoever could read the disk before reads the
    same; or it says in one line why not, and nobody finds a difference."""

    def content_of(self, image, snapshot=None):
        out = self.path("content.raw")
        which = ["-l", f"snapshot.name={snapshot}"] if snapshot else []
        done = run("qemu-img", "convert", "-U", *which, "-f", "qcow2", "-O", "raw", image, out, expect=None)
        return run("sha256sum", out).stdout if done.returncode == 0 else None

    def repair(self, image, what="all"):
        done = run(QCOWFS, "check", "--repair", what, "--json", image, expect=None)
        self.assertLessEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return done

    def test_damaged_images_of_every_kind(self):
        images = {name: read_file(path) for name, path in self.all_kinds().items()}
        outcomes = collections.Counter()
        for name, sound in images.items():
            for seed in range(scaled(12, 2)):
                damager = damage.Damager(damage.Image(sound), f"repaired {name} {seed}")
                damager.damage()
                path = content.write_file(self.path("damaged.qcow2"), damager.image.data)
                with self.subTest(name=name, seed=seed, log=damager.log):
                    outcomes[self.must_mend_or_leave(path)] += 1
        print(f"repairs: {dict(outcomes)}")
        self.assertGreater(outcomes["mended"], sum(outcomes.values()) // 3)
        self.assertGreater(outcomes["left"], 0)

    def must_mend_or_leave(self, path):
        status, before = verdict_of_qemu(path).status, self.content_of(path)
        bytes_before = read_file(path)
        done = self.repair(path)
        if before is not None:  # else QEMU stopped at a cluster that it can read now
            self.assertEqual(self.content_of(path), before)
        if done.returncode == 0:
            self.assertEqual(verdict_of_qemu(path).status, 0)
            self.assertEqual(self.verdict(path).status, 0)
            return "sound" if status == 0 else "mended"
        self.assertNotEqual(status, 0, done.stderr)
        self.assertEqual(self.repair(path).returncode, done.returncode)
        if done.stderr:
            self.assertEqual(read_file(path), bytes_before)
            self.must_be_beyond_qemu_too(path, done.stderr)
            return "left"
        return "mended in part"

    def must_be_beyond_qemu_too(self, path, reason):
        """Or QEMU mends it by giving up a snapshot whose L1 table it does not find, with all that only that one has."""
        run("qemu-img", "check", "-q", "-r", "all", path, expect=None)
        if verdict_of_qemu(path).status == 0:
            self.assertIn("an L1 table cannot be where the image says", reason)

    def leaking(self):
        image = self.rewritten("leaking")
        parsed = damage.Image(read_file(image))
        block = parsed.refcount_blocks()[0]
        end = os.path.getsize(image) // (64 * KiB)
        parsed.data.extend(bytes(8 * 64 * KiB))
        parsed.put(">H", block + 2 * (end + 3), 1)
        content.write_file(image, parsed.data)
        return image

    def test_leaks_alone(self):
        image = self.leaking()
        before = self.content_of(image)
        self.assertEqual(self.verdict(image).status, 3)
        self.assertEqual(json.loads(self.repair(image, "leaks").stdout)["leaks-fixed"], 1)
        self.must_agree(image)
        self.assertEqual(self.verdict(image).status, 0)
        self.assertEqual(self.content_of(image), before)

    def test_leaks_of_a_corrupt_image_are_left(self):
        image = self.leaking()
        parsed = damage.Image(read_file(image))
        parsed.put(">H", parsed.refcount_blocks()[0] + 2, 5)
        content.write_file(image, parsed.data)
        parsed.put(">H", parsed.refcount_blocks()[0], 0)  # the header's
        content.write_file(image, parsed.data)
        self.assertEqual(self.repair(image, "leaks").returncode, 2)
        self.assertEqual(read_file(image), bytes(parsed.data))
        self.assertEqual(self.repair(image).returncode, 0)
        self.must_agree(image)

    def test_the_marks_of_a_crash(self):
        for bits in (1, 2, 3):
            image = self.rewritten(f"marked-{bits}")
            parsed = damage.Image(read_file(image))
            parsed.put(">Q", 72, bits)
            content.write_file(image, parsed.data)
            before = self.content_of(image)
            self.assertEqual(self.repair(image).returncode, 0)
            self.assertEqual(damage.Image(read_file(image)).incompatible(), 0)
            self.assertEqual(self.content_of(image), before)
            self.mount(image).unmount()
            self.must_agree(image)

    def test_what_is_refused(self):
        image = self.rewritten("busy")
        self.refused(QCOWFS, "check", "--repair", "some", image, says="expected leaks or all")
        daemon = self.mount(image)
        self.refused(QCOWFS, "check", "--repair", "all", image, names=[image], says="in use")
        daemon.unmount()


# Where another verdict than QEMU's is the right one: name -> (why, what is done to the image, QEMU's, ours).
def l1_entry_without_table(image):
    image.set_word(image.l1 + 8 * (image.l1_size - 1), COPIED)


def snapshot_at_an_impossible_offset(image):
    image.set_word(image.snapshots[0][0], 1 << 63)


DIFFERENCES = {
    "an L1 entry with COPIED that names no table": (
        "QEMU's check takes the header for an L2 table and reports whatever its bytes look like. To every reader, "
        "QEMU's among them, the entry names nothing: there is one thing wrong, the flag.",
        l1_entry_without_table, {"status": 2}, {"status": 2, "corruptions": 1, "leaks": 0}),
    "a snapshot's L1 table at an offset that no file has": (
        "QEMU takes it for a disk that cannot be read, and gives up. It is no different from an offset behind the end "
        "of the file, which QEMU reports as corruption.",
        snapshot_at_an_impossible_offset, {"status": 1}, {"status": 2, "corruptions": 1}),
}


class Differences(CheckCase):
    def test_each_difference(self):
        path = self.snapshots(self.create_by_qemu(64 * MiB, "cluster_size=512", "sound.qcow2"), "write 0 8k")
        sound = read_file(path)
        for name, (why, act, theirs_expected, ours_expected) in DIFFERENCES.items():
            with self.subTest(name=name, why=why):
                image = damage.Image(sound)
                act(image)
                path = content.write_file(self.path("different.qcow2"), image.data)
                ours, theirs = self.verdict(path), verdict_of_qemu(path)
                self.assertNotEqual(ours[:2], theirs[:2], "no difference any more")
                for verdict, expected in ((ours, ours_expected), (theirs, theirs_expected)):
                    facts = {"status": verdict.status, **(verdict.figures or {})}
                    self.assertEqual({key: facts[key] for key in expected}, expected, verdict.text)

    def test_what_lies_outside_the_image_is_not_looked_for(self):
        """QEMU cannot open an image whose backing file or data file is missing; nothing in them bears on the check."""
        base = content.write_file(self.path("base.raw"), bytes(MiB))
        overlay = self.create_by_qemu(MiB, f"backing_file={base},backing_fmt=raw", "overlay.qcow2")
        data = self.path("data.raw")
        outside = self.create_by_qemu(MiB, f"data_file={data}", "outside.qcow2")
        for image, file in ((overlay, base), (outside, data)):
            self.assertEqual(self.must_agree(image).status, 0)
            os.rename(file, file + ".away")
            self.assertEqual((self.verdict(image).status, verdict_of_qemu(image).status), (0, 1))

    def test_an_encrypted_image_needs_no_password(self):
        secret = ["--object", "secret,id=s,data=something"]
        image = self.path("luks.qcow2")
        for attempt in range(20):  # the kernel's clock may be too coarse for the key derivation at that moment
            done = run("qemu-img", "create", "-q", "-f", "qcow2", *secret, "-o",
                       "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", image, "4M", expect=None)
            if done.returncode == 0:
                break
        self.assertEqual(done.returncode, 0, done.stderr)
        options = f"driver=qcow2,file.filename={image},encrypt.key-secret=s"
        run("qemu-io", *secret, "--image-opts", "-c", "write 0 300k", options)
        done = run("qemu-img", "check", *secret, "--output=json", "--image-opts", options)
        self.assertEqual(self.verdict(image).figures, Verdict.parse(done).figures)
        self.assertEqual(self.verdict(image).status, 0)


class Data(CheckCase):
    def unreadable_clusters(self, image):
        """Those that QEMU cannot read, compressed ones."""
        parsed = damage.Image(read_file(image))
        clusters = parsed.size // parsed.cluster
        commands = [word for i in range(clusters)
                    for word in ("-c", f"read {i * parsed.cluster} {parsed.cluster}")]
        done = run("qemu-io", "-r", "-f", "qcow2", *commands, image, expect=None)
        return [line for line in (done.stdout + done.stderr).splitlines() if "read failed" in line]

    def test_it_finds_what_qemu_cannot_read(self):
        for name, options in [("zlib", "cluster_size=16k"), ("zstd", "compression_type=zstd,cluster_size=32k"),
                              ("zlib-4k", "cluster_size=4k")]:
            sound = self.compressed(options, name, MiB)
            for seed in range(scaled(5, 2)):
                with self.subTest(name=name, seed=seed):
                    image = damage.Image(read_file(sound))
                    damager = damage.Damager(image, f"{name} {seed}")
                    for at in damager.random.sample(image.compressed_entries(), 4):
                        start, length = image.fragment(image.word(at))
                        for _ in range(3):
                            image.data[start + damager.random.randrange(length)] ^= damager.random.randrange(1, 256)
                    path = content.write_file(self.path("damaged.qcow2"), image.data)
                    self.assertEqual(self.must_agree(path).status, 0, "the tables are sound")
                    done = run(QCOWFS, "check", "--data", "--json", path, expect=None)
                    found = json.loads(done.stdout)
                    unreadable = self.unreadable_clusters(path)
                    self.assertEqual(found["undecodable-clusters"], len(unreadable), unreadable)
                    self.assertEqual(found["corruptions"], len(unreadable))
                    self.assertEqual(len(found["problems"]), len(unreadable))
                    self.assertEqual(done.returncode, 2 if unreadable else 0)

    def test_it_names_the_guest_byte_and_the_host_byte(self):
        image = damage.Image(read_file(self.compressed("cluster_size=64k", "zlib")))
        entry = image.compressed_entries()[0]
        start, _ = image.fragment(image.word(entry))
        image.data[start:start + 8] = b"\xff" * 8
        path = content.write_file(self.path("damaged.qcow2"), image.data)
        table = image.word(image.l1) & OFFSET_MASK
        guest = (entry - table) // 8 * 64 * KiB
        done = run(QCOWFS, "check", "--data", path, expect=2)
        self.assertIn(f"guest byte {guest:#x}: its compressed data at host byte {start:#x} does not decode",
                      done.stdout)
        self.assertEqual(done.stderr, "")

    def test_snapshots_are_decoded_too_and_shared_tables_once(self):
        image = self.snapshots(self.compressed("cluster_size=64k", "zlib"), "read 0 4k", "write 0 64k")
        parsed = damage.Image(read_file(image))
        last = parsed.compressed_entries()[-1]
        start, _ = parsed.fragment(parsed.word(last))
        parsed.data[start:start + 8] = b"\xff" * 8
        path = content.write_file(self.path("damaged.qcow2"), parsed.data)
        found = json.loads(run(QCOWFS, "check", "--data", "--json", path, expect=2).stdout)
        # The two snapshots share a table, the disk has its own since it was written.
        self.assertEqual(found["undecodable-clusters"], 2)
        self.assertEqual(sum("snapshot" in problem for problem in found["problems"]), 1)


class Use(CheckCase):
    def test_exit_statuses_and_what_is_said(self):
        image = self.compressed("cluster_size=64k", "disk")
        sound = damage.Image(read_file(image))
        done = run(QCOWFS, "check", image, expect=0)
        self.assertIn("sound", done.stdout)

        leaky = damage.Image(sound.data)
        leaky.data += bytes(-len(leaky.data) % leaky.cluster + leaky.cluster)
        (block, ) = leaky.refcount_blocks()
        struct.pack_into(">H", leaky.data, block + 2 * (len(leaky.data) // leaky.cluster - 1), 1)
        path = content.write_file(self.path("leaky.qcow2"), leaky.data)
        self.assertEqual(self.must_agree(path).status, 3)
        self.assertRegex(run(QCOWFS, "check", path, expect=3).stdout, "(?s)refcount 1, but 0 ref.*1 leaked cluster:")

        corrupt = damage.Image(sound.data)
        entry = corrupt.compressed_entries()[0]
        corrupt.set_word(entry, corrupt.word(entry) | COPIED)
        path = content.write_file(self.path("corrupt.qcow2"), corrupt.data)
        self.assertEqual(self.must_agree(path).status, 2)
        self.assertRegex(run(QCOWFS, "check", path, expect=2).stdout, "(?s)COPIED.*1 corruption:")

    def test_a_thousand_lines_at_most(self):
        image = damage.Image(read_file(self.compressed("cluster_size=512", "disk")))
        for at in image.l2_entries_at():
            image.set_word(at, image.word(at) | COMPRESSED | COPIED)
        path = content.write_file(self.path("corrupt.qcow2"), image.data)
        done = run(QCOWFS, "check", path, expect=2)
        lines = done.stdout.split("\n\n")[0].splitlines()
        self.assertEqual(len(lines), 1001)
        self.assertRegex(lines[-1], r"^and \d+ more$")
        found = json.loads(run(QCOWFS, "check", "--json", path, expect=2).stdout)
        self.assertEqual(len(found["problems"]), 1000)

    def test_what_is_no_image(self):
        text = content.write_file(self.path("text"), content.text(5000, 1))
        empty = content.write_file(self.path("empty"), b"")
        for path in (text, empty):
            self.assertEqual(self.refused(QCOWFS, "check", path, names=[path], says="qcow2").returncode, 63)
            self.assertEqual(run("qemu-img", "check", path, expect=None).returncode, 63)
        for path in (self.path("missing"), self.folder):
            self.assertEqual(self.refused(QCOWFS, "check", path, names=[path]).returncode, 1)

    def test_headers_that_cannot_be(self):
        sound = read_file(self.create_by_qemu(4 * MiB))
        unaligned = b"\0" * 7 + b"\1"
        for at, data in [(4, b"\0\0\0\4"), (20, b"\0\0\0\x08"), (24, b"\xff" * 8), (36, b"\xff" * 4), (40, unaligned),
                         (48, b"\xff" * 8), (56, b"\xff" * 4), (60, b"\xff" * 4), (60, b"\0\0\0\1" + unaligned),
                         (72, b"\x10" + b"\0" * 7), (96, b"\0\0\0\7"), (100, b"\0\0\0\1"), (112, b"\1" * 8)]:
            with self.subTest(at=at, data=data):
                image = bytearray(sound)
                image[at:at + len(data)] = data
                path = content.write_file(self.path("header.qcow2"), image)
                self.assertEqual(self.must_agree(path).status, 1)
                self.refused(QCOWFS, "check", path, names=[path])

    def test_an_image_without_a_refcount_table(self):
        image = bytearray(read_file(self.create_by_qemu(4 * MiB)))
        image[56:60] = bytes(4)
        path = content.write_file(self.path("none.qcow2"), image)
        self.assertEqual(self.must_agree(path).status, 2)

    def test_an_image_in_use(self):
        image = self.create(4 * MiB)
        daemon = self.mount(image)
        self.assertEqual(self.refused(QCOWFS, "check", image, names=[image], says="in use").returncode, 1)
        daemon.unmount()
        daemon = self.mount(image, "ro")
        self.assertEqual(self.verdict(image).status, 0)
        daemon.unmount()

    def test_arguments(self):
        self.assertEqual(self.refused(QCOWFS, "check", says="IMAGE").returncode, 1)
        image = self.create(MiB)
        self.assertEqual(self.refused(QCOWFS, "check", "--nonsense", image, says="nonsense").returncode, 1)
        self.assertIn("--data", run(QCOWFS, "check", "--help").stdout)
        for path in (os.path.relpath(image, self.folder), image):
            run(QCOWFS, "check", path, cwd=self.folder)

    def test_a_large_image_takes_seconds(self):
        image = self.create_by_qemu(100 * harness.GiB, "preallocation=metadata", "large.qcow2")
        done = run(QCOWFS, "check", image)
        if not harness.SANITIZED:
            self.assertLess(done.seconds, 10)

    def test_a_file_with_too_many_clusters_is_refused(self):
        image = self.create(MiB, "--cluster-size", "512")
        try:
            os.truncate(image, 512 << 31)
        except OSError as error:
            self.lacks(f"the file system holds no file of 1 TiB: {error}")
        self.assertEqual(self.refused(QCOWFS, "check", image, names=[image], says="too many clusters").returncode, 1)


if __name__ == "__main__":
    harness.main()
