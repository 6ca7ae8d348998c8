#!/usr/bin/env -S python3 -B
"""Images that show through to backing files, and images with internal snapshots: read, written, grown and shrunk, and
what lies below or was taken stays as it was. QEMU judges every byte."""

import json
import os
import random

import content
import harness
from harness import KiB, MiB, run, scaled

OVERLAY_CLUSTERS = scaled([512, 4 * KiB, 64 * KiB, 2 * MiB], [512, 64 * KiB])


class Layered(harness.MountCase):
    def write_about(self, daemon, raw, seed, count=None):
        """Random writes, holes and zeros on the mount and its twin alike."""
        source = random.Random(f"layers {seed}")
        size = os.path.getsize(raw)
        self.assertEqual(os.path.getsize(daemon.disk), size)
        for number in range(count or scaled(40, 15)):
            length = min(int(2 ** source.uniform(0, 18)), size // 2)
            offset = source.randrange(size - length)
            data = content.mixed(length, (seed, source.random()), 30000)
            for disk in (daemon.disk, raw):
                if number % 4 == 3:
                    harness.punch(disk, offset, length)
                else:
                    harness.write_at(disk, offset, data)
        self.assert_same_bytes(daemon.disk, raw)

    def resize_both(self, daemon, raw, size):
        for disk in (daemon.disk, raw):
            os.truncate(disk, size)
        self.assert_same_bytes(daemon.disk, raw)

    def data_extents(self, disk):
        """[(begin, end)] of what is not said to be a hole."""
        found, at = [], 0
        with open(disk, "rb") as file:
            while at < os.path.getsize(disk):
                try:
                    data = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                at = os.lseek(file.fileno(), data, os.SEEK_HOLE)
                found.append((data, at))
        return found

    def assert_holes_are_zeros(self, disk, twin):
        with open(twin, "rb") as file:
            begin = 0
            for data, end in [*self.data_extents(disk), (os.path.getsize(twin),) * 2]:
                file.seek(begin)
                self.assertEqual(file.read(data - begin).count(0), data - begin, (begin, data))
                begin = end

    def copy_of(self, path, name):
        run("cp", "--sparse=always", path, self.path(name))
        return self.path(name)


class Subclusters(Layered):
    """Clusters that QEMU wrote a part of: the rest of them shows zeros, or what lies below."""

    def image_of_qemu(self, name, cluster, below, size):
        image, raw = self.path(f"{name}.qcow2"), self.path(f"{name}.raw")
        base = content.write_file(self.path(f"{name}-base.raw"), content.mixed(size, name) if below else b"")
        os.truncate(base, size)
        run("cp", "--sparse=always", base, raw)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"extended_l2=on,cluster_size={cluster}",
            *(["-F", "raw", "-b", os.path.basename(base)] if below else []), image, size)
        self.write_by_qemu(image, raw, name, cluster)
        return image, raw

    def write_by_qemu(self, image, raw, seed, cluster):
        source = random.Random(f"subclusters {seed}")
        size, sub = os.path.getsize(raw), cluster // 32
        commands = []
        for number in range(scaled(60, 30)):
            length = min(sub * source.randint(1, 40), size // 4)
            offset = sub * source.randrange((size - length) // sub)
            if number % 5 == 4:  # compressed clusters beside them; only where nothing is yet, as QEMU has it
                command = f"write -c -P {number} {offset // cluster * cluster} {cluster}"
                run("qemu-io", "-c", command, image, expect=None)
                run("qemu-img", "convert", "-O", "raw", image, raw)
                continue
            how = f"write -P {1 + number}" if number % 3 else "write -z"
            for disk, kind in ((image, "qcow2"), (raw, "raw")):
                run("qemu-io", "-f", kind, "-c", f"{how} {offset} {length}", disk)

    def test_mixed_clusters(self):
        for cluster in (16 * KiB, 64 * KiB, 2 * MiB):
            for below in (False, True):
                with self.subTest(cluster=cluster, below=below):
                    size = max(4 * MiB, 6 * cluster) + 3 * 512
                    image, twin = self.image_of_qemu(f"mixed-{cluster}-{below}", cluster, below, size)
                    if not below:
                        theirs = json.loads(run("qemu-img", "map", "-f", "qcow2", "--output=json", image).stdout)
                        self.assertGreater(len(theirs), 10)
                        ours = json.loads(run(harness.QCOWFS, "map", "--json", image).stdout)
                        self.assertEqual([{key: extent[key] for key in extent if key in theirs[0] or key == "offset"}
                                          for extent in ours], theirs)
                    for turn in range(2):
                        daemon = self.mount(image)
                        self.assert_same_bytes(daemon.disk, twin)
                        self.assert_holes_are_zeros(daemon.disk, twin)
                        self.write_about(daemon, twin, (cluster, below, turn), 12)
                        self.assert_holes_are_zeros(daemon.disk, twin)
                        daemon.unmount()
                        self.judge(image, twin)
                        run(harness.QCOWFS, "check", "--data", image)
                        self.write_by_qemu(image, twin, (cluster, below, turn), cluster)
                        self.judge(image, twin)

    def test_a_hole_ends_where_a_subcluster_is_written(self):
        image = self.create_by_qemu(MiB, "extended_l2=on")
        run("qemu-io", "-c", "write -P 1 70k 2k", "-c", "write -P 1 120k 4k", "-c", "write -z 200k 2k", image)
        daemon = self.mount(image, "ro")
        self.assertEqual(self.data_extents(daemon.disk), [(70 * KiB, 72 * KiB), (120 * KiB, 124 * KiB)])
        daemon.unmount()

    def test_our_own_image_is_one_for_qemu(self):
        image, twin = self.path("own.qcow2"), self.twin(8 * MiB)
        run(harness.QCOWFS, "create", "--extended-l2", "--cluster-size", "16k", image, 8 * MiB)
        self.assertTrue(self.info(image)["format-specific"]["data"]["extended-l2"])
        for turn in range(3):
            daemon = self.mount(image)
            self.write_about(daemon, twin, ("own", turn))
            daemon.unmount()
            self.judge(image, twin)
            self.write_by_qemu(image, twin, ("own", turn), 16 * KiB)
        self.refused(harness.QCOWFS, "create", "--extended-l2", "--cluster-size", "8k", self.path("x"), "1m",
                     says="at least 16 KiB")
        self.refused(harness.QCOWFS, "create", "--extended-l2", "--v2", self.path("x"), "1m", says="version 2")


class Backing(Layered):
    def base(self, kind, size, name):
        """A disk to derive from, and the raw file that it equals."""
        raw = content.write_file(self.path(f"{name}.raw"), content.mixed(size, name))
        if kind == "raw":
            return raw, raw
        image = self.path(f"{name}-base.qcow2")
        options = "cluster_size=4k,compression_type=zstd" if kind == "zstd" else "cluster_size=64k"
        run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, raw, image)
        return image, raw

    def overlay(self, below, name, options="", size=None):
        image = self.path(f"{name}.qcow2")
        kind = "raw" if below.endswith(".raw") else "qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", os.path.basename(below),
            *(["-o", options] if options else []), image, *([size] if size else []))
        return image

    def twin_of(self, raw, name, size):
        twin = self.copy_of(raw, f"{name}-twin.raw")
        os.truncate(twin, size)
        return twin

    def write_and_judge(self, image, twin, seed, below):
        before = run("sha256sum", *below).stdout
        for turn in range(2):
            daemon = self.mount(image)
            self.assert_same_bytes(daemon.disk, twin)
            self.write_about(daemon, twin, (seed, turn))
            daemon.unmount()
            self.judge(image, twin)
        self.assertEqual(run("sha256sum", *below).stdout, before)

    def test_every_kind_of_overlay_over_every_kind_of_base(self):
        size = 3 * MiB
        for kind in ("raw", "qcow2", "zstd"):
            base, raw = self.base(kind, size, f"kind-{kind}")
            for cluster in OVERLAY_CLUSTERS:
                for compat in ("1.1", "0.10"):
                    with self.subTest(base=kind, cluster=cluster, compat=compat):
                        name = f"{kind}-{cluster}-{compat}"
                        image = self.overlay(base, name, f"cluster_size={cluster},compat={compat}")
                        self.write_and_judge(image, self.twin_of(raw, name, size), name, [base])

    def test_bases_that_are_shorter_or_longer_by_any_number_of_sectors(self):
        for base_size, size in ((1 * MiB + 512, 3 * MiB), (3 * MiB, 1 * MiB + 1536), (100 * KiB, 90 * KiB),
                                (512, 2 * MiB)):
            for kind in ("raw", "qcow2"):
                for compat in ("1.1", "0.10"):
                    with self.subTest(base=base_size, size=size, kind=kind, compat=compat):
                        name = f"{base_size}-{size}-{kind}-{compat}"
                        base, raw = self.base(kind, base_size, name)
                        image = self.overlay(base, f"{name}-top", f"compat={compat}", size)
                        self.write_and_judge(image, self.twin_of(raw, name, size), name, [base])

    def test_what_a_longer_base_has_never_comes_to_light(self):
        for compat in ("1.1", "0.10"):
            for cluster in (4 * KiB, 64 * KiB):
                with self.subTest(compat=compat, cluster=cluster):
                    name = f"grown-{compat}-{cluster}"
                    base, raw = self.base("raw", 4 * MiB, name)
                    image = self.overlay(base, f"{name}-top", f"cluster_size={cluster},compat={compat}", MiB + 512)
                    twin = self.twin_of(raw, name, MiB + 512)
                    for sizes in ((3 * MiB, 5 * MiB), (2 * MiB + 1024, 6 * MiB, 512, 4 * MiB)):
                        daemon = self.mount(image)
                        for size in sizes:
                            self.resize_both(daemon, twin, size)
                            self.write_about(daemon, twin, (name, size), 6)
                        daemon.unmount()
                        self.judge(image, twin)

    def test_a_chain_of_many(self):
        below, raw = self.base("raw", 2 * MiB, "chain")
        twin = self.twin_of(raw, "chain", 2 * MiB)
        images = [below]
        for depth in range(scaled(8, 4)):
            image = self.overlay(images[-1], f"chain-{depth}", f"cluster_size={[4096, 65536, 512][depth % 3]}")
            daemon = self.mount(image)
            self.write_about(daemon, twin, depth, 8)
            daemon.unmount()
            images.append(image)
        self.write_and_judge(images[-1], twin, "chain", images[:-1])

    def test_zeros_mask_what_lies_below(self):
        base = content.write_file(self.path("masked.raw"), content.text(2 * MiB, "masked"))
        image = self.overlay(base, "masked-top")
        twin = self.twin_of(base, "masked", 2 * MiB)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.punch(disk, 100 * KiB, 900 * KiB)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        figures = self.judge(image, twin)
        self.assertEqual(figures["allocated-clusters"], 2, "two edges are copied up, the rest says zero")

    def test_holes_are_those_of_both_layers(self):
        base = self.path("sparse.raw")
        content.write_sparse_file(base, 8 * MiB, [(2 * MiB, content.text(64 * KiB, 1))])
        image = self.overlay(base, "sparse-top")
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 5 * MiB, content.text(64 * KiB, 2))
        self.assertEqual(self.data_extents(daemon.disk), [(2 * MiB, 2 * MiB + 64 * KiB), (5 * MiB, 5 * MiB + 64 * KiB)])
        daemon.unmount()


class MadeByUs(Layered):
    """`qcowfs create --backing`: QEMU sees what it would have made itself."""

    def test_overlays(self):
        raw = content.write_file(self.path("base.raw"), content.mixed(2 * MiB + 1024, "ours"))
        base = self.path("base.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", "-c", raw, base)
        for below, kind in ((raw, "raw"), (base, "qcow2")):
            for options in ([], ["--v2"], ["--cluster-size", "512", "--refcount-bits", "64"],
                            ["--compression", "zstd", "--cluster-size", "2m"]):
                with self.subTest(below=kind, options=options):
                    name = f"ours-{kind}-{'-'.join(options)}"
                    image = self.path(f"{name}.qcow2")
                    run(harness.QCOWFS, "create", *options, "--backing", os.path.basename(below), "--backing-format",
                        kind, image)
                    facts = self.info(image)
                    self.assertEqual((facts["backing-filename"], facts["backing-filename-format"]),
                                     (os.path.basename(below), kind))
                    twin = self.copy_of(raw, f"{name}.raw")
                    self.judge(image, twin)
                    daemon = self.mount(image)
                    self.write_about(daemon, twin, name, 10)
                    daemon.unmount()
                    self.judge(image, twin)

    def test_what_is_refused(self):
        image = self.path("no.qcow2")
        base = content.write_file(self.path("base.raw"), bytes(MiB))
        create = (harness.QCOWFS, "create")
        self.refused(*create, "--backing", base, image, says="--backing-format")
        self.refused(*create, "--backing", base, "--backing-format", "vmdk", image, names=["vmdk"])
        self.refused(*create, "--backing", "missing", "--backing-format", "raw", image, says="missing.*no such file")
        self.refused(*create, "--backing", base, "--backing-format", "qcow2", image, names=[base], says="qcow2")
        self.refused(*create, image, says="SIZE")
        self.refused(*create, "--refcount-bits", "3", image, "1m", says="refcount")
        self.refused(*create, "--v2", "--compression", "zstd", image, "1m", says="version 2")
        long = self.path("x" * 200)
        content.write_file(long, bytes(512))
        self.refused(*create, "--cluster-size", "512", "--backing", "./" * 150 + os.path.basename(long),
                     "--backing-format", "raw", image, says="too long")
        self.assertFalse(os.path.exists(image))


class WhereBackingFilesMayLie(Layered):
    """The policy: what a stranger's image may lead to."""

    def overlay_of(self, name, backing, kind="raw", folder=None):
        image = os.path.join(folder or self.folder, f"{name}.qcow2")
        run("qemu-img", "create", "-q", "-u", "-f", "qcow2", *(["-F", kind] if kind else []), "-b", backing, image, MiB)
        return image

    def must_refuse(self, image, says, *options):
        point = self.path("refused-point")
        os.makedirs(point, exist_ok=True)
        words = ["-o", ",".join(options)] if options else []
        self.refused(harness.QCOWFS, *words, image, point, names=[image], says=says)

    def forget_format(self, image):
        """qemu-img no longer makes images that do not say which format their backing file has."""
        with open(image, "r+b") as file:
            header = bytearray(file.read(4096))
            at = header.index(b"\xe2\x79\x2a\xca")
            header[at:at + 4] = b"\x12\x34\x56\x78"  # an extension that nobody knows
            file.seek(0)
            file.write(header)

    def test_elsewhere_only_where_the_user_says_so(self):
        elsewhere, home = self.path("elsewhere"), self.path("home")
        os.makedirs(elsewhere)
        os.makedirs(os.path.join(home, "below"))
        base = content.write_file(os.path.join(elsewhere, "base.raw"), content.text(MiB, 1))
        os.symlink(base, os.path.join(home, "link.raw"))
        for backing in (base, "../elsewhere/base.raw", "link.raw"):
            with self.subTest(backing=backing):
                image = self.overlay_of(f"away-{len(backing)}", backing, folder=home)
                self.must_refuse(image, "-o backing_dir=" + elsewhere)
                daemon = self.mount(image, f"backing_dir={elsewhere}")
                self.assert_same_bytes(daemon.disk, base)
                daemon.unmount()
                self.must_refuse(image, "backing=off", f"backing_dir={elsewhere}", "backing=off")
        run("cp", base, os.path.join(home, "below", "base.raw"))
        image = self.overlay_of("below", "below/base.raw", folder=home)
        daemon = self.mount(image)
        self.assert_same_bytes(daemon.disk, base)
        daemon.unmount()

    def test_the_format_is_never_guessed(self):
        base = content.write_file(self.path("base.raw"), content.text(MiB, 1))
        image = self.overlay_of("unnamed", base)
        self.forget_format(image)
        self.must_refuse(image, "-o backing_format=")
        daemon = self.mount(image, "backing_format=raw")
        self.assert_same_bytes(daemon.disk, base)
        daemon.unmount()
        self.must_refuse(self.overlay_of("other", base, "vmdk"), "vmdk")

    def test_neither_protocols_nor_what_is_no_file(self):
        for number, backing in enumerate(("nbd://127.0.0.1/x", 'json:{"driver":"file","filename":"/etc/passwd"}',
                                          "nbd:unix:/tmp/socket", "http://127.0.0.1/base.raw")):
            self.must_refuse(self.overlay_of(f"protocol-{number}", backing), "none of this machine")
        os.mkfifo(self.path("pipe"))
        self.must_refuse(self.overlay_of("pipe-top", "pipe"), "not a regular file")
        self.must_refuse(self.overlay_of("device-top", "/dev/zero"), "not a regular file")
        self.must_refuse(self.overlay_of("folder-top", "."), "not a regular file")
        self.must_refuse(self.overlay_of("missing-top", "missing.raw"), "missing.raw")

    def test_loops(self):
        for length in (1, 2, 5):
            with self.subTest(length=length):
                names = [f"loop-{length}-{number}" for number in range(length)]
                images = [self.overlay_of(name, f"{names[(number + 1) % length]}.qcow2", "qcow2")
                          for number, name in enumerate(names)]
                self.must_refuse_loop(images[0])

    def must_refuse_loop(self, image):
        point = self.path("refused-point")
        os.makedirs(point, exist_ok=True)
        self.refused(harness.QCOWFS, image, point, says="among those that are derived from it")

    def test_a_base_that_somebody_writes(self):
        base = self.create(MiB, name="base.qcow2")
        image = self.overlay_of("locked", "base.qcow2", "qcow2")
        daemon = self.mount(base)
        point = self.path("refused-point")
        os.makedirs(point)
        self.refused(harness.QCOWFS, image, point, names=[base], says="in use")
        daemon.unmount()
        upper = self.mount(image)
        self.refused(harness.QCOWFS, base, point, names=[base], says="in use")
        upper.unmount()


class Snapshots(Layered):
    def image(self, name, options, size=3 * MiB, compress=True):
        raw = content.write_file(self.path(f"{name}.raw"), content.mixed(size, name))
        image = self.path(f"{name}.qcow2")
        run("qemu-img", "convert", *(["-c"] if compress else []), "-O", "qcow2", "-o", options, raw, image)
        return image, raw

    def take(self, image, raw, name):
        """QEMU takes a snapshot; what it must show from now on."""
        run("qemu-img", "snapshot", "-c", name, image)
        return self.copy_of(raw, f"{os.path.basename(image)}-{name}.raw")

    def must_show(self, image, name, raw):
        daemon = self.mount(image, f"snapshot={name}")
        self.assert_same_bytes(daemon.disk, raw)
        self.assertRaises(OSError, harness.write_at, daemon.disk, 0, b"x")
        daemon.unmount()
        copied = self.path("copied.raw")
        run(harness.QCOWFS, "convert", "-O", "raw", "-o", f"snapshot={name}", image, copied)
        self.assert_same_bytes(copied, raw)
        os.unlink(copied)
        if self.info(image)["virtual-size"] != os.path.getsize(raw):
            return  # QEMU gives a snapshot the size that the disk has now
        out = self.path("extracted.raw")
        run("qemu-img", "convert", "-l", f"snapshot.name={name}", "-f", "qcow2", "-O", "raw", image, out)
        self.assert_same_bytes(out, raw)

    def test_snapshots_stay_what_they_were(self):
        for options in ("cluster_size=64k", "cluster_size=512", "cluster_size=4k,compression_type=zstd",
                        "cluster_size=64k,compat=0.10", "cluster_size=64k,refcount_bits=64",
                        "cluster_size=2M,refcount_bits=8"):
            for compress in (True, False):
                with self.subTest(options=options, compress=compress):
                    name = f"{options}-{compress}".replace(",", "-").replace("=", "-")
                    image, raw = self.image(name, options, compress=compress)
                    taken = {}
                    for turn in ("one", "two"):
                        taken[turn] = self.take(image, raw, turn)
                        daemon = self.mount(image)
                        self.write_about(daemon, raw, (name, turn))
                        daemon.unmount()
                        self.judge(image, raw)
                    for turn, was in taken.items():
                        self.must_show(image, turn, was)

    def test_qemu_applies_and_deletes_them_afterwards(self):
        image, raw = self.image("back", "cluster_size=4k")
        was = self.take(image, raw, "one")
        later = None
        for turn in range(3):
            daemon = self.mount(image)
            self.write_about(daemon, raw, turn)
            daemon.unmount()
            if turn == 0:
                later = self.take(image, raw, "two")
        run("qemu-img", "snapshot", "-a", "one", image)
        self.judge(image, was)
        daemon = self.mount(image)
        self.write_about(daemon, was, "applied")
        daemon.unmount()
        self.judge(image, was)
        self.must_show(image, "two", later)
        for name in ("one", "two"):
            run("qemu-img", "snapshot", "-d", name, image)
            self.judge(image, was)
        daemon = self.mount(image)
        self.write_about(daemon, was, "deleted")
        daemon.unmount()
        self.judge(image, was)

    def test_disks_of_other_sizes_than_their_snapshots(self):
        image, raw = self.image("sizes", "cluster_size=4k")
        was = self.take(image, raw, "one")
        for size in (5 * MiB, 1 * MiB + 512, 9 * MiB):
            daemon = self.mount(image)
            self.resize_both(daemon, raw, size)
            self.write_about(daemon, raw, size)
            daemon.unmount()
            self.judge(image, raw)
            self.must_show(image, "one", was)

    def test_a_version_2_image_with_snapshots_keeps_its_size(self):
        image, raw = self.image("old", "compat=0.10")
        self.take(image, raw, "one")
        daemon = self.mount(image)
        for size in (MiB, 8 * MiB):
            self.assertRaises(OSError, os.truncate, daemon.disk, size)
        self.assert_same_bytes(daemon.disk, raw)
        daemon.unmount()
        self.judge(image, raw)

    def test_snapshots_that_are_not_there(self):
        image, raw = self.image("names", "cluster_size=64k")
        point = self.path("refused-point")
        os.makedirs(point)
        self.refused(harness.QCOWFS, "-o", "snapshot=one", image, point, names=[image, "one"], says="no snapshot")
        was = self.take(image, raw, "one")
        self.take(image, raw, "two")
        self.refused(harness.QCOWFS, "-o", "snapshot=three", image, point, names=["three", "one", "two"])
        daemon = self.mount(image, "snapshot=1")  # its id
        self.assert_same_bytes(daemon.disk, was)
        daemon.unmount()

    def test_over_a_backing_file(self):
        base = content.write_file(self.path("base.raw"), content.mixed(2 * MiB, "base"))
        image = self.path("over.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", image)
        raw = self.copy_of(base, "over-twin.raw")
        was = self.take(image, raw, "one")
        daemon = self.mount(image)
        self.write_about(daemon, raw, "over")
        daemon.unmount()
        self.judge(image, raw)
        self.must_show(image, "one", was)


class SnapshotVerb(Layered):
    """`qcowfs snapshot`: QEMU finds what it would have made itself, and what it made is found."""

    def image(self, name, options=(), size=3 * MiB):
        raw = content.write_file(self.path(f"{name}.raw"), content.mixed(size, name))
        image = self.path(f"{name}.qcow2")
        run("qemu-img", "convert", "-c", "-O", "qcow2", *(["-o", options] if options else []), raw, image)
        return image, raw

    def snapshot(self, action, image, *name):
        return run(harness.QCOWFS, "snapshot", action, image, *name).stdout

    def rewrite(self, image, raw, seed):
        daemon = self.mount(image)
        self.write_about(daemon, raw, seed, 12)
        daemon.unmount()
        self.judge(image, raw)

    def test_both_programs_in_turn(self):
        for options in ("cluster_size=64k", "cluster_size=512", "compat=0.10", "cluster_size=4k,compression_type=zstd",
                        "refcount_bits=64", "cluster_size=2M"):
            with self.subTest(options=options):
                name = options.replace("=", "-").replace(",", "-")
                image, raw = self.image(name, options)
                states = {}
                for number, taker in enumerate(("ours", "theirs", "ours again")):
                    if taker == "theirs":
                        run("qemu-img", "snapshot", "-c", taker, image)
                    else:
                        self.snapshot("create", image, taker)
                    states[taker] = self.copy_of(raw, f"{name}-{number}.raw")
                    self.judge(image, raw)
                    self.rewrite(image, raw, (name, number))
                self.assertEqual([line.split("  ")[-1] for line in self.snapshot("list", image).splitlines()],
                                 ["ours", "theirs", "ours again"])
                self.assertEqual(json.loads(self.snapshot("list", "--json", image)), self.info(image)["snapshots"])
                theirs = run("qemu-img", "snapshot", "-l", image).stdout
                for taker, was in states.items():
                    self.assertIn(taker, theirs)
                    self.snapshot("apply", image, taker)
                    self.judge(image, was)
                    run("qemu-img", "snapshot", "-a", "theirs", image)
                    self.judge(image, states["theirs"])
                self.snapshot("delete", image, "theirs")
                run("qemu-img", "snapshot", "-d", "ours", image)
                self.judge(image, states["theirs"])
                run("qemu-img", "snapshot", "-a", "ours again", image)
                self.judge(image, states["ours again"])
                self.rewrite(image, states["ours again"], (name, "last"))
                self.snapshot("delete", image, "ours again")
                self.judge(image, states["ours again"])
                self.assertEqual(self.snapshot("list", image), "")

    def test_the_size_of_the_disk_comes_back(self):
        image, raw = self.image("sizes")
        was = self.copy_of(raw, "sizes-was.raw")
        self.snapshot("create", image, "small")
        daemon = self.mount(image)
        self.resize_both(daemon, raw, 9 * MiB)
        daemon.unmount()
        self.snapshot("create", image, "large")
        self.snapshot("apply", image, "small")
        self.judge(image, was)
        self.snapshot("apply", image, "large")
        self.judge(image, raw)

    def test_deleting_gives_space_back(self):
        image, raw = self.image("space", size=8 * MiB)
        alone = os.stat(image).st_blocks
        self.snapshot("create", image, "one")
        content.write_file(raw, content.text(8 * MiB, "other"))
        daemon = self.mount(image)
        run("dd", f"if={raw}", f"of={daemon.disk}", "bs=1M", "conv=notrunc,fsync")
        daemon.unmount()
        self.assertGreater(os.stat(image).st_blocks, 1.3 * alone)
        self.snapshot("delete", image, "one")
        self.judge(image, raw)
        self.assertLess(os.stat(image).st_blocks, 1.2 * alone)

    def test_bitmaps_stay_true_or_go(self):
        image, raw = self.image("bitmaps")
        run("qemu-img", "bitmap", "--add", image, "b0")
        self.snapshot("create", image, "one")
        self.judge(image, raw)
        self.assertEqual(self.info(image)["format-specific"]["data"]["bitmaps"][0]["name"], "b0")
        self.snapshot("apply", image, "one")
        self.judge(image, raw)
        self.assertNotIn("bitmaps", self.info(image)["format-specific"]["data"])

    def test_what_is_refused(self):
        image, raw = self.image("refused")
        verb = (harness.QCOWFS, "snapshot")
        self.snapshot("create", image, "one")
        before = run("sha256sum", image).stdout
        self.refused(*verb, "create", image, "one", names=[image], says="already")
        self.refused(*verb, "delete", image, "two", names=[image], says="no snapshot two")
        self.refused(*verb, "apply", image, "two", names=[image], says="no snapshot two")
        self.refused(*verb, "create", image, says="NAME")
        self.refused(*verb, "create", "--json", image, "x", says="--json goes with list")
        self.refused(*verb, "undo", image, "one", says="expected list, create")
        self.refused(*verb, "create", self.path("missing"), "x", says="no such file")
        self.refused(*verb, "create", raw, "x", names=[raw], says="not a qcow2")
        narrow, _ = self.image("narrow", "refcount_bits=1")
        self.refused(*verb, "create", narrow, "x", names=[narrow], says="1 bits have no room")
        self.check(narrow)
        daemon = self.mount(image)
        self.refused(*verb, "create", image, "x", names=[image], says="in use")
        daemon.unmount()
        self.assertEqual(run("sha256sum", image).stdout, before)
        apart = self.create_by_qemu(MiB, f"data_file={self.path('data.raw')}", "apart.qcow2")
        self.refused(*verb, "create", apart, "x", names=[apart], says="external data file")


if __name__ == "__main__":
    harness.main()
