#!/usr/bin/env -S python3 -B
"""SIGKILL at any moment loses nothing that an fsync has acknowledged, and leaves an image that QEMU calls sound: leaks
at worst.

Round after round on the same image: mount, several threads write, rewrite, punch holes and fsync, the daemon is killed
at a random moment (in some rounds while it stores everything during an unmount), the dead mount is taken away. Every
sector is judged (history.py) through QEMU or through the next mount. What was found is where the next round starts.

QCOWFS_KILL_ROUNDS  how many rounds
QCOWFS_SEED         of everything random; the moment of the kill is still the scheduler's to decide
"""

import ctypes
import errno
import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time

import aio
import foreground
import harness
import history
from harness import KiB, MiB, QCOWFS, run, scaled
from history import SECTOR

ROUNDS = int(os.environ.get("QCOWFS_KILL_ROUNDS") or scaled(200 if harness.DOOR == "file" else 60, 24))
ROUNDS_PER_IMAGE = scaled(25, 6)
SEED = int(os.environ.get("QCOWFS_SEED") or random.SystemRandom().randrange(1 << 32))
GEOMETRIES = [  # cluster size, compression, disk size
    (4 * KiB, "zlib", 5 * MiB), (64 * KiB, "zstd", 6 * MiB), (64 * KiB, "zlib", 4 * MiB), (4 * KiB, "zstd", 3 * MiB),
    (512, "zlib", MiB), (2 * MiB, "zstd", 6 * MiB)]
BATCH = 4  # asynchronous writes of one thread under way together


class Disk:
    """An image that outlives its daemons, and what is known of its content."""

    def __init__(self, case, number):
        self.cluster_size, self.compression, self.size = GEOMETRIES[number % len(GEOMETRIES)]
        self.sectors = self.size // SECTOR
        self.image = case.create(self.size, "--cluster-size", self.cluster_size, "--compression", self.compression,
                                 name=f"disk-{number}.qcow2")
        self.baseline = [history.ZERO] * self.sectors  # as it was before what `recorder` has
        self.recorder = history.Recorder()

    def accept(self, data):
        """`data` was judged to be right: the next round starts there."""
        self.baseline = history.numbers_in(data, 0)
        last = self.recorder.new_number()
        self.recorder = history.Recorder(last + 1)

    def losses(self, data):
        return history.losses(self.recorder, self.baseline, data)


class Writers:
    """Threads that change the disk until they are told to stop or the daemon has died under them."""

    def __init__(self, disk, path, source, compacting=False):
        self.disk = disk
        self.recorder = disk.recorder
        self.stop = threading.Event()
        self.acknowledged = threading.Semaphore(0)
        self.compactions = 0  # begun
        self.cut_off = 0  # operations that the kill answered with an error
        self.surprises = []
        self.hot = source.randrange(disk.sectors // 2)  # rewritten most
        self.fd = os.open(path, os.O_RDWR)
        self.direct_fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.path = path
        bodies = [self.write_in_turn, self.write_in_turn, self.write_in_batches]
        self.writing = len(bodies)
        if compacting:
            bodies.append(self.compact_again_and_again)
        self.threads = [threading.Thread(target=self.live, args=[body, random.Random(source.random())])
                        for body in bodies]
        for thread in self.threads:
            thread.start()

    def live(self, body, source):
        try:
            body(source)
        except OSError:
            self.cut_off += 1
        except Exception as error:
            self.surprises.append(repr(error))

    def place(self, source):
        count = min(int(2 ** source.uniform(0, 8)), self.disk.sectors // 4)  # up to 128 KiB
        if source.random() < 0.5:
            return min(self.hot + source.randrange(64), self.disk.sectors - count), count
        return source.randrange(self.disk.sectors - count), count

    def write_in_turn(self, source):
        while not self.stop.is_set():
            kind = source.random()
            if kind < 0.12:
                self.recorder.sync(lambda: os.fsync(self.fd))
            elif kind < 0.25:
                self.clear(source)
            else:
                first, count = self.place(source)
                number = self.recorder.new_number()
                data = history.content(number, first, count)
                fd = self.direct_fd if source.random() < 0.4 else self.fd
                self.recorder.write(number, first, count, lambda: self.write_all(fd, data, first * SECTOR))
            self.acknowledged.release()

    @staticmethod
    def write_all(fd, data, offset):
        written = os.pwrite(fd, data, offset)
        if written != len(data):  # the rest of a torn write is one that has failed
            raise OSError(f"only {written} of {len(data)} bytes were taken")

    def clear(self, source):
        first, count = self.place(source)
        if source.random() < 0.3:
            count = min(4 * count, self.disk.sectors - first)
        mode = harness.FALLOC_FL_PUNCH_HOLE if source.random() < 0.7 else harness.FALLOC_FL_ZERO_RANGE

        def punch():
            done = harness.libc.fallocate(self.fd, mode | harness.FALLOC_FL_KEEP_SIZE,
                                          ctypes.c_int64(first * SECTOR), ctypes.c_int64(count * SECTOR))
            if done != 0:
                raise OSError(ctypes.get_errno(), "fallocate")

        self.recorder.write(history.ZERO, first, count, punch)

    def compact_again_and_again(self, source):
        while not self.stop.is_set():
            try:
                os.setxattr(self.path, "user.qcowfs.compact", source.choice([b"on", b"on", b"9"]))
                self.compactions += 1
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
            time.sleep(source.uniform(0, 0.02))

    def write_in_batches(self, source):
        queue = aio.Queue(BATCH)
        try:
            while not self.stop.is_set():
                if source.random() < 0.2:
                    self.recorder.sync(lambda: os.fsync(self.direct_fd))
                    self.acknowledged.release()
                else:
                    self.write_batch(queue, source)
        finally:
            queue.close()

    def write_batch(self, queue, source):
        requests = []
        records = []
        failed = []
        for _ in range(source.randrange(1, BATCH + 1)):
            first, count = self.place(source)
            number = self.recorder.new_number()
            buffer = ctypes.create_string_buffer(history.content(number, first, count), count * SECTOR)
            requests.append((self.direct_fd, aio.PWRITE, first * SECTOR, buffer, count * SECTOR))
            records.append((number, first, count))
        records = [self.recorder.began(*record) for record in records]

        def completed(index, result, end):
            if result == requests[index][4]:
                records[index][1] = end
                self.acknowledged.release()
            else:
                failed.append(result)

        queue.transfer(requests, completed)
        if failed:
            raise OSError(f"asynchronous writes answered {failed}")

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(60 * harness.PATIENCE)
        hanging = [thread for thread in self.threads if thread.is_alive()]
        for fd in (self.fd, self.direct_fd):
            try:
                os.close(fd)
            except OSError:
                pass  # that of a dead mount has lost its flush
        if hanging or self.surprises:
            raise AssertionError(f"{len(hanging)} writers hang; unexpected: {self.surprises}")


class KillCase(harness.MountCase):
    def setUp(self):
        super().setUp()
        obstacle = aio.obstacle()
        if obstacle:
            self.lacks(obstacle)
        self.point = self.path("point")
        os.mkdir(self.point)
        self.leaks = 0

    def options(self, source):
        options = ["commit_interval=1", f"workers={source.choice([1, 2, 4])}", f"level={source.choice([1, 1, 6])}"]
        if source.random() < 0.3:
            options.append("cache_size=1m")
        if source.random() < 0.3:
            options.append("direct=off")
        options.append(f"clean={source.choice(['off', 'idle', 'on'])}")
        return options

    def check_crashed(self, image):
        """QEMU's verdict on what a crash has left: sound, or with leaks."""
        done = run("qemu-img", "check", "-f", "qcow2", "--output=json", image, expect=None)
        self.assertNotEqual(done.stdout, "", done.stderr)
        figures = json.loads(done.stdout)
        self.assertIn(done.returncode, (0, 3), done.stdout + done.stderr)
        self.assertEqual((figures.get("corruptions", 0), figures.get("check-errors", 0)), (0, 0), done.stdout)
        self.leaks = max(self.leaks, figures.get("leaks", 0))

    def read_by_qemu(self, disk):
        raw = self.path("raw")
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk.image, raw)
        with open(raw, "rb") as file:
            return file.read()

    def judge_data(self, disk, data):
        found = disk.losses(data)
        self.assertEqual(len(data), disk.size)
        self.assertEqual(len(found), 0, "\n".join([f"{len(found)} sectors are wrong"] + found[:5]))
        disk.accept(data)

    def take_away_the_dead(self, image, source):
        """Every way that a person may find to get rid of a mount whose daemon has died."""
        way = source.choice(["umount", "umount", "mount over it", "the system's umount"])
        if way == "mount over it":
            run(QCOWFS, "-r", image, self.point)  # which takes the dead one away, and changes nothing
            run(QCOWFS, "umount", self.point)
        elif way == "the system's umount":
            run(*(["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]), self.point)
        else:
            done = run(QCOWFS, "umount", self.point)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertRegex(done.stderr, f"{self.point}.*died.*lost")
        self.assertNotIn(self.point, harness.mounts())


class Kill(KillCase):
    def test_nothing_acknowledged_is_lost(self):
        print(f"QCOWFS_SEED={SEED} QCOWFS_KILL_ROUNDS={ROUNDS}", flush=True)
        source = random.Random(SEED)
        started = time.monotonic()
        self.totals = {"writes": 0, "syncs": 0, "cut off": 0, "during an unmount": 0, "compactions": 0}
        disk = None
        for number in range(ROUNDS):
            if number % ROUNDS_PER_IMAGE == 0:
                if disk is not None:
                    self.end_of_image(disk)
                disk = Disk(self, number // ROUNDS_PER_IMAGE)
            where = f"round {number}, seed {SEED}, clusters of {disk.cluster_size}, {disk.compression}"
            try:
                self.one_round(disk, source, number)
            except BaseException as error:
                raise AssertionError(f"{where}; the image: {self.preserve(disk.image)}") from error
        self.end_of_image(disk)
        seconds = time.monotonic() - started
        print(f"{ROUNDS} rounds in {seconds:.1f} s: {self.totals}, {self.leaks} clusters leaked at most", flush=True)
        # Else the kills came too early or too late to find anything.
        self.assertGreater(self.totals["writes"], 10 * ROUNDS)
        self.assertGreater(self.totals["syncs"], ROUNDS)
        self.assertGreater(self.totals["cut off"], ROUNDS // 2)
        if ROUNDS >= 100:  # of fewer rounds chance may give none
            self.assertGreater(self.totals["compactions"], ROUNDS // 20)

    def one_round(self, disk, source, number):
        daemon = foreground.Foreground(self, disk.image, self.point, *self.options(source))
        # Every sector of the round before is judged here, or was judged by QEMU and must not differ from that.
        self.judge_data(disk, harness.read_at(daemon.disk, 0, disk.size))
        writers = Writers(disk, daemon.disk, source, compacting=source.random() < 0.4)
        try:
            for _ in range(source.choice([0, 1, 3, 10, 30, 60, 100])):
                if not writers.acknowledged.acquire(timeout=0.2):
                    break
            time.sleep(source.choice([0, source.uniform(0, 0.002), source.uniform(0, 0.03)]))
            during_unmount = source.random() < 0.15
            if not during_unmount:
                daemon.kill()
        finally:
            writers.end()
        if during_unmount:
            self.kill_during_unmount(disk, daemon, source)
        self.count(writers, during_unmount)
        self.wait_until_let_go(disk.image)
        self.check_crashed(disk.image)
        if self.point in harness.mounts():
            self.take_away_the_dead(disk.image, source)
        if number % 4 == 0:
            self.judge_data(disk, self.read_by_qemu(disk))

    def kill_during_unmount(self, disk, daemon, source):
        umount = subprocess.Popen([QCOWFS, "umount", self.point], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        time.sleep(source.uniform(0, 0.03))
        daemon.kill()
        said = umount.communicate(timeout=60 * harness.PATIENCE)[1]
        if umount.returncode != 0 or "died" in said:
            self.assertEqual(len(said.splitlines()), 1, said)
            self.assertRegex(said, "died|cannot")
        else:  # it was told that everything is stored
            self.assertEqual(said, "")
            disk.recorder.durable = history.NEVER

    def count(self, writers, during_unmount):
        self.totals["writes"] += len(writers.recorder.writes)
        self.totals["syncs"] += writers.recorder.syncs
        self.totals["cut off"] += writers.cut_off > 0
        self.totals["during an unmount"] += during_unmount
        self.totals["compactions"] += writers.compactions

    def end_of_image(self, disk):
        """A quiet mount and unmount still find everything, and leave no more than the kills had."""
        daemon = foreground.Foreground(self, disk.image, self.point)
        self.judge_data(disk, harness.read_at(daemon.disk, 0, disk.size))
        daemon.unmount()
        self.check_crashed(disk.image)
        self.judge_data(disk, self.read_by_qemu(disk))
        os.unlink(self.file_of(disk.image))

    def preserve(self, image):
        """For whoever looks into it: the test's own folder does not live as long."""
        folder = tempfile.mkdtemp(prefix="qcowfs-kill-", dir=os.environ.get("QCOWFS_TEST_DIR"))
        return shutil.copy(self.file_of(image), folder)


class TheTestItself(KillCase):
    """What this test is here to find, done to an image by hand, is found."""

    def crashed(self):
        """A disk after writes that were acknowledged by an fsync, a rewrite of a part, another fsync, more, a kill."""
        disk = Disk(self, 0)
        daemon = foreground.Foreground(self, disk.image, self.point, "commit_interval=3600")
        fd = os.open(daemon.disk, os.O_RDWR)
        for first, count, synced in [(0, 400, False), (1000, 64, True), (100, 50, True), (300, 20, False)]:
            number = disk.recorder.new_number()
            data = history.content(number, first, count)
            disk.recorder.write(number, first, count, lambda: Writers.write_all(fd, data, first * SECTOR))
            if synced:
                disk.recorder.sync(lambda: os.fsync(fd))
        daemon.kill()
        try:
            os.close(fd)
        except OSError:
            pass
        foreground.detach(self.point)
        self.check_crashed(disk.image)
        self.assertEqual(disk.losses(self.read_by_qemu(disk)), [])
        return disk

    def only_loss(self, disk, sector, says):
        found = disk.losses(self.read_by_qemu(disk))
        self.assertEqual(len(found), 1, found)
        self.assertRegex(found[0], rf"^sector {sector} .*{says}")

    def put(self, disk, sector, data):
        path = self.path("sector")
        with open(path, "wb") as file:
            file.write(data)
        run("qemu-io", "-f", "qcow2", "-c", f"write -s {path} {sector * SECTOR} {SECTOR}", disk.image)

    def test_a_damaged_sector_is_found(self):
        disk = self.crashed()
        self.put(disk, 17, b"\x5a" * SECTOR)
        self.only_loss(disk, 17, "no write has left")

    def test_a_lost_sector_is_found(self):
        disk = self.crashed()
        self.put(disk, 1001, history.ZEROS)
        self.only_loss(disk, 1001, "holds zeros, but that had been overwritten")

    def test_a_sector_of_an_older_write_is_found(self):
        disk = self.crashed()
        self.put(disk, 120, history.value(disk.recorder.writes[0][2], 120))
        self.only_loss(disk, 120, "had been overwritten")

    def test_a_sector_of_another_place_is_found(self):
        disk = self.crashed()
        self.put(disk, 30, history.value(disk.recorder.writes[0][2], 31))
        self.only_loss(disk, 30, "no write has left")

    def test_what_no_fsync_covers_may_be_lost(self):
        disk = self.crashed()
        self.put(disk, 305, history.value(disk.recorder.writes[0][2], 305))
        self.assertEqual(disk.losses(self.read_by_qemu(disk)), [])


if __name__ == "__main__":
    harness.main()
