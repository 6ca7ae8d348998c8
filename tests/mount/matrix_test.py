#!/usr/bin/env -S python3 -B
"""What an image may be, in the combinations that a seeded draw gives: version, clusters, compression, refcounts, what
lies below, how many snapshots, and who made them. Random work on each; QEMU judges the disk and every snapshot."""

import itertools
import os
import random

import content
import harness
from harness import KiB, MiB, QCOWFS, run, scaled

AXES = {
    "version": ("2", "3"),
    "cluster": (512, 1 * KiB, 4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB, 2 * MiB),
    "entries": ("standard", "extended"),
    "compression": ("zlib", "zstd"),
    "below": ("nothing", "raw", "qcow2", "chain"),
    "snapshots": (0, 2),
    "refcounts": (8, 16, 32, 64),
    "maker": ("qcowfs", "qemu-img"),
}


def draws(count):
    """Pairs of values of any two axes that none had before come first; what version 2 cannot have is left out."""
    source = random.Random("matrix")
    drawn = []
    wanted = {((one, a), (other, b)) for one, other in itertools.combinations(AXES, 2)
              for a in AXES[one] for b in AXES[other]}
    while len(drawn) < count:
        # The best of some: the one that has the most pairs that none had before.
        candidates = [{axis: source.choice(values) for axis, values in AXES.items()} for _ in range(40)]
        for candidate in candidates:
            if candidate["version"] == "2":
                candidate.update(compression="zlib", refcounts=16, entries="standard")
            if candidate["entries"] == "extended" and candidate["cluster"] < 16 * KiB:
                candidate.update(cluster=source.choice((16 * KiB, 64 * KiB, 256 * KiB, 2 * MiB)))
        best = max(candidates, key=lambda kind: len(wanted & set(itertools.combinations(kind.items(), 2))))
        wanted -= set(itertools.combinations(best.items(), 2))
        drawn.append(best)
    return drawn


class Matrix(harness.MountCase):
    def below(self, kind, size, name):
        """(backing file, its format, the raw file that it equals)"""
        raw = content.write_file(self.path(f"{name}.raw"), bytes(size) if kind == "nothing" else
                                 content.mixed(size, name))
        if kind == "nothing":
            return None, None, raw
        if kind == "raw":
            run("cp", raw, self.path(f"{name}-base.raw"))
            return f"{name}-base.raw", "raw", raw
        base = f"{name}-base.qcow2"
        run("qemu-img", "convert", "-c", "-O", "qcow2", raw, self.path(base))
        for depth in range(2 if kind == "chain" else 0):
            upper = f"{name}-{depth}.qcow2"
            small = {"version": "3", "cluster": 4 * KiB, "entries": "standard", "compression": "zstd", "refcounts": 16}
            self.make("qcowfs", small, upper, base, "qcow2", size)
            base = upper
            self.work(self.path(base), raw, f"{name} {depth}", 6)
        return base, "qcow2", raw

    def make(self, maker, kind, name, base, base_format, size):
        image = self.path(name)
        if maker == "qcowfs":
            run(QCOWFS, "create", "--cluster-size", kind["cluster"], "--compression", kind["compression"],
                "--refcount-bits", kind["refcounts"], *(["--v2"] if kind["version"] == "2" else []),
                *(["--extended-l2"] if kind["entries"] == "extended" else []),
                *(["--backing", base, "--backing-format", base_format] if base else []), image, size)
            return image
        options = [f"cluster_size={kind['cluster']}", f"refcount_bits={kind['refcounts']}",
                   f"compression_type={kind['compression']}", f"compat={'0.10' if kind['version'] == '2' else '1.1'}"]
        options += ["extended_l2=on"] if kind["entries"] == "extended" else []
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(options),
            *(["-b", base, "-F", base_format] if base else []), image, size)
        return image

    def work(self, image, raw, seed, count):
        source = random.Random(f"matrix {seed}")
        size = os.path.getsize(raw)
        daemon = self.mount(image)
        for number in range(count):
            length = min(int(2 ** source.uniform(5, 18)), size // 2)
            offset = source.randrange(size - length)
            data = content.mixed(length, (seed, number), 40000)
            punches = source.random() < 0.25
            for disk in (daemon.disk, raw):
                if punches:
                    harness.punch(disk, offset, length)
                else:
                    harness.write_at(disk, offset, data)
        self.assert_same_bytes(daemon.disk, raw)
        daemon.unmount()

    def work_of_qemu(self, image, raw, seed):
        """What QEMU leaves: standard clusters and, of extended entries, some that are so and others that are not."""
        self.qemu_writes(image, raw, seed, 12, 96)

    def take_snapshot(self, maker, image, name):
        if maker == "qcowfs":
            run(QCOWFS, "snapshot", "create", image, name)
        else:
            run("qemu-img", "snapshot", "-c", name, image)

    def must_be_sound(self, image, raw):
        self.judge(image, raw)
        run(QCOWFS, "check", "--data", image)
        run(QCOWFS, "compare", image, raw)

    def run_through(self, number, kind):
        size = 2 * MiB + 512 * (number % 5)
        name = f"m{number}"
        base, base_format, raw = self.below(kind["below"], size, name)
        image = self.make(kind["maker"], kind, f"{name}.qcow2", base, base_format, size)
        self.work_of_qemu(image, raw, number)
        self.work(image, raw, number, 10)
        self.must_be_sound(image, raw)
        taken = {}
        for snapshot in range(kind["snapshots"]):
            maker = ("qcowfs", "qemu-img")[(number + snapshot) % 2]
            self.take_snapshot(maker, image, f"s{snapshot}")
            taken[f"s{snapshot}"] = self.path(f"{name}-s{snapshot}.raw")
            run("cp", "--sparse=always", raw, taken[f"s{snapshot}"])
            self.work_of_qemu(image, raw, (number, snapshot))
            self.work(image, raw, (number, snapshot), 10)
            self.must_be_sound(image, raw)
        for snapshot, was in taken.items():
            daemon = self.mount(image, f"snapshot={snapshot}")
            self.assert_same_bytes(daemon.disk, was)
            daemon.unmount()
            run("qemu-img", "snapshot", "-a", snapshot, image)
            self.judge(image, was)
            self.work(image, was, (number, snapshot, "applied"), 4)
            self.judge(image, was)
        if taken:
            run(QCOWFS, "snapshot", "apply", image, "s0")
            self.assertNotEqual(run("qemu-img", "snapshot", "-l", image).stdout, "")

    def test_every_pair_of_kinds(self):
        for number, kind in enumerate(draws(scaled(96, 6))):
            with self.subTest(number=number, **kind):
                self.run_through(number, kind)


if __name__ == "__main__":
    harness.main()
