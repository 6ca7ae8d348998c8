#!/usr/bin/env -S python3 -B
"""A host that interrupts calls, does them in part, fails them, or is full: a library (faulty_host.cpp) that is loaded
before the daemon's own ones stands between it and its image.

Interruptions and partial transfers change nothing. After an error of writing nothing that was fsynced is lost, nothing
is called stored that is not, and what can be read stays readable; an error of reading is that read's alone.

QCOWFS_FAULTY_HOST  the library; beside the program's tests where it is not set
"""

import ctypes
import errno
import mmap
import os
import random
import re
import struct
import sys

import content
import foreground
import harness
import history
from harness import KiB, MiB, QCOWFS, run, scaled
from history import SECTOR

LIBRARY = os.path.abspath(os.environ.get("QCOWFS_FAULTY_HOST") or
                          os.path.join(os.path.dirname(QCOWFS), "tests/mount/libfaulty_host.so"))
SEED = int(os.environ.get("QCOWFS_SEED") or random.SystemRandom().randrange(1 << 32))
ALWAYS = 1 << 40
QUIET = "commit_interval=3600"  # nothing reaches the image unless it is asked for

CLUSTERS = [(4 * KiB, "zlib"), (64 * KiB, "zstd")]


class Faults:
    """The library's knobs and counts: `of(kind)` as faulty_host.cpp has them."""

    KINDS = ("reading", "writing", "syncing", "allocating", "truncating")
    FIELDS = ("calls", "interrupt_percent", "shorten_percent", "fail_from", "fail_count", "error", "failed", "bent")
    SIZE = 8 * (2 + len(KINDS) * len(FIELDS))

    def __init__(self, path, seed):
        with open(path, "w+b") as file:
            file.truncate(self.SIZE)
            self.memory = mmap.mmap(file.fileno(), self.SIZE)
        struct.pack_into("<Q", self.memory, 0, seed)

    def place(self, kind, field):
        return 8 * (2 + self.KINDS.index(kind) * len(self.FIELDS) + self.FIELDS.index(field))

    def get(self, kind, field):
        return struct.unpack_from("<Q", self.memory, self.place(kind, field))[0]

    def set(self, kind, **fields):
        for field, number in fields.items():
            struct.pack_into("<Q", self.memory, self.place(kind, field), number)

    def fail(self, kind, nth, count, error):
        """Calls of the kind, from the nth from now, fail."""
        self.set(kind, fail_count=count, error=error)
        self.set(kind, fail_from=self.get(kind, "calls") + nth)

    def heal(self):
        self.full(False)
        for kind in self.KINDS:
            self.set(kind, fail_from=0, interrupt_percent=0, shorten_percent=0)

    def full(self, value):
        struct.pack_into("<Q", self.memory, 8, int(value))


def direct_read(path, offset, length):
    """Past the kernel's page cache: the daemon is asked."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        return os.pread(fd, length, offset)
    finally:
        try:
            os.close(fd)
        except OSError:
            pass  # tells every one that closes of what could not be stored, readers too


class FaultyCase(harness.MountCase):
    def setUp(self):
        super().setUp()
        self.assertTrue(os.path.exists(LIBRARY), f"{LIBRARY} has not been built")
        self.point = self.path("point")
        os.mkdir(self.point)
        self.source = random.Random(SEED)

    def mount_faulty(self, image, *options, refuses=""):
        """A daemon behind the library, with knobs that are all at rest."""
        environment = self.behind_library(image, refuses)
        daemon = foreground.Foreground(self, image, self.point, *options, environment=environment)
        # Opening reads the header; where that was not seen the library is not between, and no test means anything.
        self.assertGreater(self.faults.get("reading", "calls"), 0, "the daemon's calls do not pass the library")
        return daemon

    def behind_library(self, image, refuses=""):
        """The environment of such a daemon."""
        self.faults = Faults(self.path(f"control-{self.next_number()}"), SEED)
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        return {
            "FAULTY_REFUSES": refuses, "LD_PRELOAD": LIBRARY, "FAULTY_FILE": image,
            "FAULTY_CONTROL": self.path(f"control-{self.numbers}"),
            # The library comes before the sanitizer's, which that allows only when told to.
            "ASAN_OPTIONS": (sanitizer + ":" if sanitizer else "") + "verify_asan_link_order=0"}

    def convert(self, image):
        raw = self.path("raw")
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
        with open(raw, "rb") as file:
            return file.read()

    def check_sound(self, image):
        done = run("qemu-img", "check", "-f", "qcow2", image, expect=None)
        self.assertIn(done.returncode, (0, 3), done.stdout + done.stderr)

    def complaints(self, daemon):
        return [line for line in daemon.said().splitlines() if re.search(r"\b(error|critical)\b", line)]


class Worker:
    """Random writes, zeroes and fsyncs of one disk, recorded for the judge of history.py."""

    def __init__(self, disk, size, source, share=4):
        self.sectors = size // SECTOR
        self.source = source
        self.share = share
        self.recorder = history.Recorder()
        self.fd = os.open(disk, os.O_RDWR)

    def close(self):
        os.close(self.fd)

    def place(self):
        count = min(int(2 ** self.source.uniform(0, 9)), self.sectors // self.share)
        return self.source.randrange(self.sectors - count + 1), count

    def write(self, first=None, count=None):
        if first is None:
            first, count = self.place()
        number = self.recorder.new_number()
        data = history.content(number, first, count)

        def put():
            written = os.pwrite(self.fd, data, first * SECTOR)
            if written != len(data):  # the rest was refused; why, the next write says
                raise OSError(errno.EIO, f"{written} of {len(data)} bytes were taken")

        self.recorder.write(number, first, count, put)

    def zero(self):
        first, count = self.place()

        def clear():
            mode = harness.FALLOC_FL_PUNCH_HOLE | harness.FALLOC_FL_KEEP_SIZE
            done = harness.libc.fallocate(self.fd, mode, ctypes.c_int64(first * SECTOR),
                                          ctypes.c_int64(count * SECTOR))
            if done != 0:
                raise OSError(ctypes.get_errno(), "fallocate")

        self.recorder.write(history.ZERO, first, count, clear)

    def sync(self):
        self.recorder.sync(lambda: os.fsync(self.fd))

    def step(self, sync_share=0.08):
        kind = self.source.random()
        if kind < sync_share:
            self.sync()
        elif kind < sync_share + 0.1:
            self.zero()
        else:
            self.write()

    def losses(self, data):
        """Of what must be durable."""
        return history.losses(self.recorder, [history.ZERO] * self.sectors, data)

    def misreadings(self, data):
        """Of a look at all of the disk now: each write that succeeded is seen, each that failed may be."""
        writes = history.writes_by_sector(self.recorder.writes, [history.ZERO] * self.sectors)
        reads = [[(history.NEVER - 1, history.NEVER, number)] for number in history.numbers_in(data, 0)]
        return history.misfits(writes, reads)


class Refusals(FaultyCase):
    """A file system that does not know what others do."""

    SIZE = 6 * MiB

    def work_without(self, refuses, sentences, kinds=()):
        """Writes, gives up and stores; `sentences` are said once each in the log."""
        image = self.create(self.SIZE, name=f"disk-{self.next_number()}.qcow2")
        daemon = self.mount_faulty(image, refuses=refuses)
        for kind in kinds:
            self.faults.fail(kind, 1, ALWAYS, errno.EOPNOTSUPP)
        worker = Worker(daemon.disk, self.SIZE, self.source)
        worker.write(0, self.SIZE // SECTOR)
        for _ in range(scaled(300, 80)):
            worker.step()
        worker.sync()
        worker.close()
        daemon.unmount()
        self.check_sound(image)
        self.assertEqual(worker.losses(self.convert(image)), [], f"seed {SEED}")
        for sentence in sentences:
            self.assertEqual(daemon.said().count(sentence), 1, daemon.said())

    def test_direct_io(self):
        self.work_without("direct", ["refuses direct I/O; using the page cache"])

    def test_what_direct_io_must_be_aligned_to(self):
        self.work_without("facts", [])

    def test_space_set_aside_and_given_back(self):
        self.work_without("", ["sets no space aside", "takes no space back"], kinds=["allocating"])

    def test_all_of_it(self):
        self.work_without("direct facts", ["refuses direct I/O"], kinds=["allocating"])

    def test_direct_io_that_was_asked_for(self):
        self.mount_is_refused("direct", "refuses direct I/O; use -o direct=auto", "-o", "direct=on")

    def test_locks(self):
        """Without them nobody could be kept from writing too."""
        self.mount_is_refused("locks", r"cannot lock the image.*No locks")

    def mount_is_refused(self, refuses, says, *arguments):
        image = self.create(self.SIZE)
        environment = {**os.environ, **self.behind_library(image, refuses)}
        self.refused(QCOWFS, *arguments, image, self.point, names=[image], says=says, env=environment)


class Nuisances(FaultyCase):
    """EINTR, and transfers that do a part: a caller's duty to go on."""

    SIZE = 6 * MiB
    STEPS = scaled(700, 150)

    def work(self, cluster_size, compression, options, knobs, must_bend):
        image = self.create(self.SIZE, "--cluster-size", cluster_size, "--compression", compression,
                            name=f"disk-{self.next_number()}.qcow2")
        for _ in range(2):  # the second time over what is there
            daemon = self.mount_faulty(image, "commit_interval=1", *options)
            worker = Worker(daemon.disk, self.SIZE, self.source)
            for kind, fields in knobs.items():
                self.faults.set(kind, **fields)
            # An old content is none of the new recorder's.
            worker.write(0, self.SIZE // SECTOR)
            for number in range(self.STEPS):
                worker.step()
                if number % 20 == 0:
                    first, count = worker.place()
                    data = direct_read(daemon.disk, first * SECTOR, count * SECTOR)
                    self.assertNotIn(history.TORN, history.numbers_in(data, first), f"seed {SEED}")
            harness.forget_cached(daemon.disk)
            found = worker.misreadings(harness.read_at(daemon.disk, 0, self.SIZE))
            self.assertEqual(found[:3], [], f"{len(found)} sectors are wrong, seed {SEED}")
            worker.close()
            daemon.unmount()
            for kind in must_bend:
                self.assertGreater(self.faults.get(kind, "bent"), 0, f"no call of {kind} was bent")
            self.check(image)
            found = worker.misreadings(self.convert(image))
            self.assertEqual(found[:3], [], f"{len(found)} sectors are wrong for QEMU, seed {SEED}")

    def test_transfers(self):
        print(f"QCOWFS_SEED={SEED}", flush=True)
        bent = {"interrupt_percent": 25, "shorten_percent": 60}
        for cluster_size, compression in CLUSTERS:
            for direct in ("auto", "off"):
                with self.subTest(cluster_size=cluster_size, direct=direct):
                    options = [f"direct={direct}", "cache_size=1m"]
                    # Past the page cache most transfers are of a single block, which is done whole.
                    self.work(cluster_size, compression, options, {"reading": bent, "writing": bent},
                              ["reading", "writing"])

    def test_interrupted_barriers(self):
        self.work(*CLUSTERS[0], [], {"syncing": {"interrupt_percent": 40}}, ["syncing"])

    def test_interrupted_space_keeping(self):
        """Whatever the daemon does with the file's space; it need not do anything."""
        knobs = {"allocating": {"interrupt_percent": 40}, "truncating": {"interrupt_percent": 40}}
        self.work(*CLUSTERS[1], [], knobs, [])


class WriteErrors(FaultyCase):
    """An error of the k-th write or barrier: from then on every fsync says so."""

    SIZE = 4 * MiB
    STEPS_MAX = 400

    def fail_at(self, kind, nth, count, cluster_size, compression):
        image = self.create(self.SIZE, "--cluster-size", cluster_size, "--compression", compression,
                            name=f"disk-{self.next_number()}.qcow2")
        daemon = self.mount_faulty(image, "cache_size=1m")
        worker = Worker(daemon.disk, self.SIZE, self.source)
        for _ in range(20):
            worker.write()
        worker.sync()
        self.faults.fail(kind, nth, count, errno.EIO)
        error = self.provoke(worker)
        self.assertEqual(error.errno, errno.EIO)
        self.assertGreater(self.faults.get(kind, "failed"), 0)
        self.faults.set(kind, fail_from=0)  # the device has recovered; what was lost is lost all the same

        for attempt in range(3):
            with self.assertRaises(OSError) as caught:
                os.fsync(worker.fd)
            self.assertEqual(caught.exception.errno, errno.EIO, f"fsync {attempt} after the error")
        with self.assertRaises(OSError) as caught:
            harness.fsync(daemon.disk)  # also through a descriptor that has seen nothing
        self.assertEqual(caught.exception.errno, errno.EIO)
        with self.assertRaises(OSError) as caught:
            worker.write()
        self.assertEqual(caught.exception.errno, errno.EIO)
        data = b"".join(direct_read_all(daemon.disk, self.SIZE))
        found = worker.misreadings(data)
        self.assertEqual(found[:3], [], f"{len(found)} sectors are read wrong after the error, seed {SEED}")
        with self.assertRaises(OSError) as caught:
            worker.close()
        self.assertEqual(caught.exception.errno, errno.EIO)

        done = daemon.unmount(expect=1)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertRegex(done.stderr, "Input/output error")
        self.assertEqual(len(re.findall("error: writing failed, nothing more is accepted: .*Input/output error",
                                        daemon.said())), 1, daemon.said())
        self.assertLess(len(self.complaints(daemon)), 8, "one line for each kind of request is enough")
        self.check_sound(image)
        found = worker.losses(self.convert(image))
        self.assertEqual(found[:3], [], f"{len(found)} sectors lost, seed {SEED}")

    def provoke(self, worker):
        """Works until the error comes to light; it must come with the next fsync."""
        for _ in range(self.STEPS_MAX):
            try:
                worker.step(0.1)
            except OSError as error:
                return error
        raise AssertionError(f"{self.STEPS_MAX} steps brought no error to light")

    def test_writes(self):
        self.every_nth("writing", scaled((1, 2, 3, 4, 5, 7, 11, 16), (1, 3, 7)))

    def test_barriers(self):
        self.every_nth("syncing", scaled((1, 2, 3, 4, 5), (1, 2, 3)))

    def every_nth(self, kind, places):
        print(f"QCOWFS_SEED={SEED}", flush=True)
        for cluster_size, compression in CLUSTERS:
            for nth in places:
                for count in (1, ALWAYS):
                    with self.subTest(kind=kind, nth=nth, count=count, cluster_size=cluster_size):
                        self.fail_at(kind, nth, count, cluster_size, compression)
                    foreground.detach(self.point)  # the next one must not find what a failed one left

    def test_an_error_after_the_last_fsync_is_told_by_the_unmount(self):
        image = self.create(self.SIZE)
        daemon = self.mount_faulty(image, QUIET)
        worker = Worker(daemon.disk, self.SIZE, self.source)
        worker.write()
        worker.sync()
        worker.write()
        worker.close()
        self.faults.fail("writing", 1, ALWAYS, errno.EIO)
        done = daemon.unmount(expect=1)
        self.assertRegex(done.stderr, "Input/output error")
        self.check_sound(image)
        self.assertEqual(worker.losses(self.convert(image)), [])


def direct_read_all(path, size, step=256 * KiB):
    return [direct_read(path, at, min(step, size - at)) for at in range(0, size, step)]


class ReadErrors(FaultyCase):
    """An error of reading is told to that reader and forgotten."""

    SIZE = 4 * MiB

    def written(self, cluster_size, compression):
        """An image that holds `text` and a mount that has not read any of it."""
        image = self.create(self.SIZE, "--cluster-size", cluster_size, "--compression", compression,
                            name=f"disk-{self.next_number()}.qcow2")
        text = content.text(self.SIZE, cluster_size)
        daemon = foreground.Foreground(self, image, self.point)
        harness.write_at(daemon.disk, 0, text)
        daemon.unmount()
        return image, text

    def test_reads_fail_alone(self):
        for cluster_size, compression in CLUSTERS:
            for nth in (1, 2, 5):
                with self.subTest(cluster_size=cluster_size, nth=nth):
                    self.fail_a_read(cluster_size, compression, nth)
                foreground.detach(self.point)

    def fail_a_read(self, cluster_size, compression, nth):
        image, text = self.written(cluster_size, compression)
        daemon = self.mount_faulty(image, QUIET)
        self.faults.fail("reading", nth, 1, errno.EIO)
        errors = []
        for at in range(0, self.SIZE, 128 * KiB):
            try:
                self.assertEqual(direct_read(daemon.disk, at, 128 * KiB), text[at:at + 128 * KiB], at)
            except OSError as error:
                errors.append((error.errno, at))
        self.assertEqual(self.faults.get("reading", "failed"), 1)
        self.assertEqual([error for error, _ in errors], [errno.EIO])
        at = errors[0][1]
        self.assertEqual(direct_read(daemon.disk, at, 128 * KiB), text[at:at + 128 * KiB])

        twin = self.path(f"twin-{self.next_number()}")
        content.write_file(twin, text)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 100 * KiB + 7, content.text(300 * KiB, nth))
        harness.fsync(daemon.disk)
        self.assertEqual(b"".join(direct_read_all(daemon.disk, self.SIZE)), harness.read_at(twin, 0, self.SIZE))
        daemon.unmount()
        self.judge(image, twin)

    def test_a_device_that_cannot_be_read_for_a_while(self):
        image, text = self.written(*CLUSTERS[1])
        daemon = self.mount_faulty(image, QUIET)
        self.faults.fail("reading", 1, ALWAYS, errno.EIO)
        for at in (0, MiB, 0):
            with self.assertRaises(OSError) as caught:
                direct_read(daemon.disk, at, 4 * KiB)
            self.assertEqual(caught.exception.errno, errno.EIO)
        harness.fsync(daemon.disk)
        self.faults.heal()
        self.assertEqual(b"".join(direct_read_all(daemon.disk, self.SIZE)), text)
        daemon.unmount()
        self.check(image)

    def test_a_part_of_a_cluster_over_what_cannot_be_read(self):
        """The rest of the cluster comes from the image. Where it cannot, fsync must not claim that all is well, and
        the neighbours of what was written must not turn into something else."""
        for nth in (1, 2, 3, 4):
            with self.subTest(nth=nth):
                image, text = self.written(*CLUSTERS[1])
                daemon = self.mount_faulty(image, QUIET)
                self.faults.fail("reading", nth, 1, errno.EIO)
                new = content.noise(SECTOR, nth)
                at = 10 * 64 * KiB + 8 * KiB
                expected = text[:at] + new + text[at + SECTOR:]
                synced = True
                try:
                    harness.write_at(daemon.disk, at, new)
                    harness.fsync(daemon.disk)
                except OSError as error:
                    self.assertEqual(error.errno, errno.EIO)
                    synced = False
                if not synced:
                    self.assertGreater(self.faults.get("reading", "failed"), 0, "an error that nobody made")
                status = 0 if synced else None
                run(QCOWFS, "umount", self.point, expect=status)
                daemon.process.wait(60 * harness.PATIENCE)
                daemon.must_have_no_report()
                self.check_sound(image)
                left = self.convert(image)
                self.assertIn(left, (expected,) if synced else (expected, text))
            foreground.detach(self.point)


class Barriers(FaultyCase):
    """How often the device is made to store: the most expensive thing that can be asked of it."""

    def test_how_many_an_fsync_costs(self):
        size = 16 * MiB
        image = self.create(size)
        daemon = self.mount_faulty(image, QUIET)
        harness.write_at(daemon.disk, 0, content.text(4 * MiB, 1))
        harness.fsync(daemon.disk)  # and the refcounts of the first clusters are there

        def cost(*steps):
            for step in steps:
                step()
            before = self.faults.get("syncing", "calls")
            harness.fsync(daemon.disk)
            return self.faults.get("syncing", "calls") - before

        self.assertEqual(cost(), 0, "nothing is pending")
        self.assertEqual(cost(lambda: harness.write_at(daemon.disk, 5 * MiB, content.text(100 * KiB, 2))), 2)
        self.assertEqual(cost(), 0, "nothing is pending again")
        self.assertEqual(cost(lambda: harness.write_at(daemon.disk, 1000, content.text(5, 3))), 2, "a rewrite")
        self.assertEqual(cost(lambda: harness.punch(daemon.disk, MiB, MiB)), 1, "a discard only")
        self.assertEqual(cost(lambda: harness.write_at(daemon.disk, 3 * MiB, content.text(100 * KiB, 4)),
                              lambda: harness.punch(daemon.disk, 2 * MiB, MiB)), 2, "a write and a discard")
        self.assertEqual(cost(lambda: direct_read(daemon.disk, 0, MiB)), 0, "only read")
        daemon.unmount()
        self.check(image)
        daemon = self.mount_faulty(image)
        direct_read(daemon.disk, 0, MiB)
        daemon.unmount()
        self.assertEqual(self.faults.get("syncing", "calls"), 0, "a mount that changed nothing")


class Full(FaultyCase):
    """A host without space: accepted bytes wait for it, and are stored once there is some."""

    SIZE = 48 * MiB

    def fill_until_refused(self, worker, at, end):
        """Writes noise from sector `at` on, fsyncing now and then, until one of the two is refused."""
        refusals = []
        while at < end and not refusals:
            count = min(256, end - at)
            try:
                number = 3 * worker.recorder.new_number() + 1  # of an incompressible kind
                data = history.content(number, at, count)
                record = worker.recorder.began(number, at, count)
                written = os.pwrite(worker.fd, data, at * SECTOR)
                if written == len(data):
                    worker.recorder.ended(record)
                if at % 2048 == 0:
                    worker.sync()
            except OSError as error:
                refusals.append(error.errno)
            at += count
        return refusals, at

    def must_be_full(self, worker):
        """After the first refusal: fsync fails with ENOSPC for as long as something accepted has no place."""
        refused = 0
        for _ in range(3):
            try:
                worker.sync()
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
                refused += 1
        self.assertIn(refused, (0, 3), "it changed its mind while nothing changed")

    def recover(self, worker, daemon, image):
        """There is space again: everything accepted becomes durable, and the mount works as if nothing had been."""
        worker.sync()
        for first in range(0, 4096, 512):
            worker.write(first, 200)
        worker.sync()
        found = worker.misreadings(b"".join(direct_read_all(daemon.disk, self.SIZE)))
        self.assertEqual(found[:3], [], f"{len(found)} sectors are read wrong, seed {SEED}")
        worker.close()
        daemon.unmount()
        self.check(image)
        found = worker.misreadings(self.convert(image))
        self.assertEqual(found[:3], [], f"{len(found)} sectors are wrong, seed {SEED}")

    def run_full(self, make_full):
        print(f"QCOWFS_SEED={SEED}", flush=True)
        image = self.create(self.SIZE, name=f"disk-{self.next_number()}.qcow2")
        daemon = self.mount_faulty(image, "commit_interval=1", "cache_size=8m")
        worker = Worker(daemon.disk, self.SIZE, self.source)
        refusals, at = self.fill_until_refused(worker, 0, 16384)
        self.assertEqual(refusals, [])
        worker.sync()
        make_full()
        refusals, at = self.fill_until_refused(worker, at, self.SIZE // SECTOR)
        self.assertEqual(refusals, [errno.ENOSPC])
        self.assertLess(at, self.SIZE // SECTOR)
        self.must_be_full(worker)
        found = worker.misreadings(b"".join(direct_read_all(daemon.disk, self.SIZE)))
        self.assertEqual(found[:3], [], f"{len(found)} sectors are read wrong while it is full, seed {SEED}")
        return image, daemon, worker

    def test_space_comes_back(self):
        image, daemon, worker = self.run_full(lambda: self.faults.full(True))
        self.faults.heal()
        self.recover(worker, daemon, image)

    def test_space_comes_back_where_every_write_needs_it(self):
        """As on a file system that never writes in place."""
        def refuse_everything():
            for kind in ("writing", "allocating"):
                self.faults.fail(kind, 1, ALWAYS, errno.ENOSPC)

        image, daemon, worker = self.run_full(refuse_everything)
        self.faults.heal()
        self.recover(worker, daemon, image)

    def test_killed_while_full(self):
        image, daemon, worker = self.run_full(lambda: self.faults.full(True))
        daemon.kill()
        foreground.detach(self.point)
        self.check_sound(image)
        self.assertEqual(worker.losses(self.convert(image))[:3], [])

    def test_unmounted_while_full(self):
        """What is said of it is true, either way."""
        image, daemon, worker = self.run_full(lambda: self.faults.full(True))
        try:
            worker.close()
        except OSError as error:
            self.assertEqual(error.errno, errno.ENOSPC)
        done = run(QCOWFS, "umount", self.point, expect=None)
        status = daemon.process.wait(60 * harness.PATIENCE)
        self.assertEqual(status, done.returncode, done.stderr)
        self.check_sound(image)
        left = self.convert(image)
        if done.returncode == 0:
            self.assertEqual(worker.misreadings(left)[:3], [])
        else:
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertRegex(done.stderr, "No space left on device")
            self.assertEqual(worker.losses(left)[:3], [])

    def test_a_small_file_system(self):
        if os.geteuid() != 0:
            self.lacks("mounting a tmpfs needs root")
        folder = self.path("small")
        os.mkdir(folder)
        run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder)
        self.addCleanup(lambda: run("umount", "-l", folder))
        ballast = content.write_file(os.path.join(folder, "ballast"), content.noise(8 * MiB, "ballast"))
        size = self.SIZE // 2
        image = self.create(size, name="small/disk.qcow2")
        daemon = foreground.Foreground(self, image, self.point, "commit_interval=1", "cache_size=4m")
        worker = Worker(daemon.disk, size, self.source)
        refusals, at = self.fill_until_refused(worker, 0, size // SECTOR)
        self.assertEqual(refusals, [errno.ENOSPC])
        self.must_be_full(worker)
        found = worker.misreadings(b"".join(direct_read_all(daemon.disk, size)))
        self.assertEqual(found[:3], [], f"{len(found)} sectors are read wrong while it is full")
        os.unlink(ballast)
        worker.sync()
        refusals, _ = self.fill_until_refused(worker, at, min(at + 4096, size // SECTOR))
        self.assertEqual(refusals, [])
        worker.sync()
        worker.close()
        daemon.unmount()
        self.check(image)
        self.assertEqual(worker.misreadings(self.convert(image))[:3], [])


if __name__ == "__main__":
    harness.main()
