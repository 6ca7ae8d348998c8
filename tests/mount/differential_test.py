#!/usr/bin/env -S python3 -B
"""What QEMU opens and reads, qcowfs opens and reads to the same bytes, or refuses for a reason that stands here; what
qcowfs accepts, QEMU accepts: images of every kind, damaged at random."""

import collections
import os
import re
import subprocess

import content
import damage
import harness
from check_test import CheckCase, read_file
from harness import KiB, MiB, QCOWFS, run, scaled

WINDOW = 2 * MiB  # of each disk is compared

# Why qcowfs refuses what QEMU opens.
REFUSED_ALONE = {
    r"ends before its tables": "a file that was cut short is not taken for an empty disk",
    r"a table entry": "an L1 entry that cannot be true: QEMU finds it when it gets there",
}
# What QEMU refuses and qcowfs opens.
ACCEPTED_ALONE = {
    r"snapshot table": "the disk is read without its snapshots; who asks for one, or writes, is told",
}


class Reading(collections.namedtuple("Reading", ["size", "parts", "said"])):
    """`parts`: what each step of the disk holds, None where it cannot be read. None in place of all where the image
    was refused; `said` is why."""


def read_by_qcowfs(case, image, step):
    point = case.path(f"point-{case.next_number()}")
    os.mkdir(point)
    done = run(QCOWFS, "-r", "-o", "data_file=on", image, point, expect=None, timeout=60)
    if done.returncode != 0:
        return Reading(None, None, done.stderr)
    case.addCleanup(lambda: point in harness.mounts() and run("umount", "-l", point))
    disk = os.path.join(point, os.listdir(point)[0])
    size = os.path.getsize(disk)
    parts = []
    with open(disk, "rb", buffering=0) as file:
        for at in range(0, min(size, WINDOW), step):
            try:
                parts.append(os.pread(file.fileno(), step, at))
            except OSError:
                parts.append(None)
    run(QCOWFS, "umount", point)
    return Reading(size, parts, "")


def read_by_qemu(case, image, step):
    opened = run("qemu-io", "-r", "-f", "qcow2", "-c", "info", image, expect=None)
    info = run("qemu-img", "info", "-U", "-f", "qcow2", "--output=json", image, expect=None)
    match = re.search(r'"virtual-size": (\d+)', info.stdout)
    if opened.returncode != 0 or not match:
        return Reading(None, None, opened.stderr + opened.stdout + info.stderr)
    length = int(match[1]) & ~511
    ends = [(at, min(step, length - at)) for at in range(0, min(length, WINDOW), step)]
    asked = subprocess.run(["qemu-io", "-r", "-f", "qcow2", image], check=False, capture_output=True, text=True,
                           input="".join(f"read {at} {part}\n" for at, part in ends))
    read = {int(at) for at in re.findall(r"read \d+/\d+ bytes at offset (\d+)", asked.stdout)}
    raw = case.path(f"salvaged-{case.next_number()}.raw")
    run("qemu-img", "convert", "--salvage", "-f", "qcow2", "-O", "raw", image, raw, expect=None, timeout=120)
    data = read_file(raw) if os.path.exists(raw) else b""
    parts = [data[at:at + part].ljust(part, b"\0") if at in read else None for at, part in ends]
    if os.path.exists(raw):
        os.unlink(raw)
    return Reading(length, parts, "")


class Differential(CheckCase):
    def compare(self, image, step):
        """The kind of outcome, for the count of them."""
        ours, theirs = read_by_qcowfs(self, image, step), read_by_qemu(self, image, step)
        if ours.parts is None or theirs.parts is None:
            return self.compare_refusals(ours, theirs)
        self.assertEqual(ours.size, theirs.size)
        for number, (one, other) in enumerate(zip(ours.parts, theirs.parts, strict=True)):
            if one is None or other is None:
                self.assertEqual(one is None, other is None, f"step {number} of {step}: ours {one is not None}, "
                                 f"QEMU's {other is not None}")
            else:
                self.assertEqual(one[:len(other)], other, f"step {number} of {step}")
        return "read in part" if None in theirs.parts else "read"

    def compare_refusals(self, ours, theirs):
        if ours.parts is None and theirs.parts is None:
            return "refused"
        if ours.parts is None:
            known = [why for pattern, why in REFUSED_ALONE.items() if re.search(pattern, ours.said)]
            self.assertTrue(known, f"refused, but not by QEMU: {ours.said}")
            return "refused alone"
        known = [why for pattern, why in ACCEPTED_ALONE.items() if re.search(pattern, theirs.said)]
        self.assertTrue(known, f"accepted, but not by QEMU: {theirs.said}")
        return "accepted alone"

    def test_damaged_images_of_every_kind(self):
        outcomes = collections.Counter()
        for name, path in self.all_kinds().items():
            sound = read_file(path)
            step = max(4 * KiB, damage.Image(sound).cluster)
            with self.subTest(name=name):
                self.assertEqual(self.compare(path, step), "read")
            for seed in range(scaled(6, 1)):
                damager = damage.Damager(damage.Image(sound), f"read {name} {seed}")
                for _ in range(damager.random.choice([1, 2, 3])):
                    damager.damage()
                damaged = content.write_file(self.path("damaged.qcow2"), damager.image.data)
                with self.subTest(name=name, seed=seed, log="; ".join(damager.log)):
                    outcomes[self.compare(damaged, step)] += 1
        print(f"outcomes: {dict(outcomes)}")
        for outcome in ("read", "read in part", "refused"):
            self.assertGreater(outcomes[outcome], 0, outcome)


if __name__ == "__main__":
    harness.main()
