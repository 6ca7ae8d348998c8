#!/usr/bin/env -S python3 -B
"""What a mount says of itself, by extended attributes and by qcowfs status, and what can be set while it is mounted."""

import errno
import json
import mmap
import os
import re
import shutil
import signal
import stat
import subprocess
import time

import content
import harness
from harness import KiB, MiB, QCOWFS, run

STATS = "user.qcowfs.stats"
COMMIT_INTERVAL, CACHE_SIZE = "user.qcowfs.commit_interval", "user.qcowfs.cache_size"
WORKERS, CLEAN = "user.qcowfs.workers", "user.qcowfs.clean"
COMPACT = "user.qcowfs.compact"


def report(path):
    return json.loads(os.getxattr(path, STATS))


class Attributes(harness.MountCase):
    def refused_with(self, error, action, *arguments):
        with self.assertRaises(OSError, msg=str(arguments)) as caught:
            action(*arguments)
        self.assertEqual(caught.exception.errno, error, arguments)

    def test_the_report_counts_what_is_done(self):
        image = self.create(8 * MiB)
        daemon = self.mount(image)
        before = report(daemon.disk)
        self.assertEqual((before["disk-bytes"], before["encoded-bytes"], before["failure"]), (8 * MiB, 0, ""))
        self.assertEqual(before["requests"]["write"]["count"], 0)
        harness.write_at(daemon.disk, 0, content.text(2 * MiB, 1))
        harness.fsync(daemon.disk)
        stored = report(daemon.point)  # of the folder too
        write = stored["requests"]["write"]
        self.assertEqual((write["bytes"], write["errors"], stored["encoded-bytes"]), (2 * MiB, 0, 2 * MiB))
        self.assertEqual((stored["requests"]["fsync"]["count"], stored["dirty-bytes"]), (1, 0))
        self.assertGreater(stored["commits"], before["commits"])
        self.assertLess(0, stored["stored-bytes"])
        self.assertLess(stored["stored-bytes"], MiB)
        latency = write["latency-us"]
        self.assertLess(0, latency["p50"])
        self.assertLessEqual(latency["p50"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["p999"])
        daemon.unmount()

    def test_reads_tell_hits_from_misses(self):
        image = self.create(8 * MiB)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, content.text(2 * MiB, 1))
        daemon.unmount()
        daemon = self.mount(image)
        for hits, misses in ((0, 1), (1, 1), (2, 1)):
            file = os.open(daemon.disk, os.O_RDONLY | os.O_DIRECT)
            os.preadv(file, [memoryview(mmap.mmap(-1, 4 * KiB))], 64 * KiB)
            os.close(file)
            said = report(daemon.disk)
            self.assertEqual((said["cache-hits"], said["cache-misses"]), (hits, misses))
        self.assertEqual(said["requests"]["read"]["bytes"], 12 * KiB)
        daemon.unmount()

    def test_names_and_values(self):
        daemon = self.mount(self.create(MiB), "commit_interval=9", "cache_size=16m")
        names = [STATS, COMMIT_INTERVAL, CACHE_SIZE, WORKERS, CLEAN, COMPACT]
        self.assertEqual(sorted(os.listxattr(daemon.disk)), sorted(names))
        self.assertEqual(os.getxattr(daemon.disk, COMMIT_INTERVAL), b"9")
        self.assertEqual(os.getxattr(daemon.disk, CACHE_SIZE), b"16777216")
        os.setxattr(daemon.disk, COMMIT_INTERVAL, b"7")
        os.setxattr(daemon.disk, CACHE_SIZE, b"8M")
        self.assertEqual(os.getxattr(daemon.disk, COMMIT_INTERVAL), b"7")
        self.assertEqual(os.getxattr(daemon.disk, CACHE_SIZE), b"8388608")
        for name, value in ((COMMIT_INTERVAL, b"0"), (COMMIT_INTERVAL, b"x"), (COMMIT_INTERVAL, b""),
                            (COMMIT_INTERVAL, b"99999999"), (CACHE_SIZE, b"1"), (CACHE_SIZE, b"-1m"),
                            (CACHE_SIZE, b"8m\0"), (WORKERS, b"0"), (WORKERS, b"all"), (CLEAN, b"sometimes"),
                            ("user.qcowfs.nonsense", b"1"), ("user.qcowfs.level", b"9")):
            self.refused_with(errno.EINVAL, os.setxattr, daemon.disk, name, value)
        self.refused_with(errno.EPERM, os.setxattr, daemon.disk, STATS, b"{}")
        self.refused_with(errno.EOPNOTSUPP, os.setxattr, daemon.disk, "user.other", b"1")
        for name in ("user.other", "user.qcowfs.nonsense", "security.capability"):
            self.refused_with(errno.ENODATA, os.getxattr, daemon.disk, name)
        self.assertEqual(os.getxattr(daemon.disk, COMMIT_INTERVAL), b"7")
        daemon.unmount()
        daemon = self.mount(self.create(MiB, name="other.qcow2"), "ro")
        self.refused_with(errno.EROFS, os.setxattr, daemon.disk, COMMIT_INTERVAL, b"7")
        self.assertEqual(report(daemon.disk)["disk-bytes"], MiB)
        daemon.unmount()

    def test_a_shorter_commit_interval_takes_effect_at_once(self):
        image = self.create(4 * MiB)
        daemon = self.mount(image, "commit_interval=3600")
        harness.write_at(daemon.disk, 0, b"part of a cluster, which waits for the rest")
        self.assertGreater(report(daemon.disk)["dirty-bytes"], 0)
        os.setxattr(daemon.disk, COMMIT_INTERVAL, b"1")
        harness.wait_for(lambda: report(daemon.disk)["dirty-bytes"] == 0, 60)
        harness.wait_for(lambda: report(daemon.disk)["commits"] > 0, 60)
        daemon.unmount()

    def test_the_cache_may_shrink_and_grow_amid_writes(self):
        image = self.create(64 * MiB)
        twin = self.twin(64 * MiB)
        daemon = self.mount(image, "cache_size=64m", "commit_interval=3600")
        for number, size in enumerate((b"64m", b"1m", b"2m", b"100m", b"8m")):
            os.setxattr(daemon.disk, CACHE_SIZE, size)
            for disk in (daemon.disk, twin):
                harness.write_at(disk, number * 9 * MiB + 777, content.mixed(12 * MiB, number))
            if size == b"1m":
                self.assertLess(report(daemon.disk)["dirty-bytes"], 3 * MiB)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_workers_may_become_more_and_fewer_amid_writes(self):
        image = self.create(64 * MiB)
        twin = self.twin(64 * MiB)
        daemon = self.mount(image, "workers=2")
        for number, workers in enumerate((b"1", b"5", b"2")):
            for disk in (daemon.disk, twin):
                harness.write_at(disk, number * 20 * MiB + 777, content.mixed(20 * MiB, number))
            os.setxattr(daemon.disk, WORKERS, workers)
            self.assertEqual(os.getxattr(daemon.disk, WORKERS), workers)
            self.assertEqual(report(daemon.disk)["workers"], int(workers))
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_cleaning_can_be_turned_on_and_off(self):
        image = self.create(160 * MiB)
        twin = self.twin(160 * MiB)
        daemon = self.mount(image, "clean=off", "commit_interval=1")
        for disk in (daemon.disk, twin):
            for number in range(160):  # fragments shorter than a block
                harness.write_at(disk, number * MiB, content.text(4 * KiB, number) * 256)
        harness.fsync(daemon.disk)
        for disk in (daemon.disk, twin):
            for number in range(0, 160 * MiB, 256 * KiB):  # what is left lies scattered
                harness.punch(disk, number, 192 * KiB)
        harness.fsync(daemon.disk)
        time.sleep(2)
        said = report(daemon.disk)
        self.assertEqual(os.getxattr(daemon.disk, CLEAN), b"off")
        self.assertEqual((said["cleaning"], said["moved-bytes"], said["compacting"]), ("off", 0, False))
        os.setxattr(daemon.disk, CLEAN, b"on")
        self.assertEqual(os.getxattr(daemon.disk, CLEAN), b"on")
        harness.wait_for(lambda: report(daemon.disk)["moved-bytes"] > 0, 60)
        harness.wait_for(lambda: report(daemon.disk)["given-back-bytes"] > 0, 60)
        self.assertRegex(run(QCOWFS, "status", daemon.point).stdout, r"(?m)^cleaning +on; moved .*, gave back ")
        os.setxattr(daemon.disk, CLEAN, b"off")
        self.assertEqual(report(daemon.disk)["cleaning"], "off")
        daemon.unmount()
        self.judge(image, twin)

    def test_only_who_may_read_the_disk_sees_it(self):
        if os.geteuid() != 0:
            self.lacks("another user can be played by root only")
        daemon = self.mount(self.create(MiB), "allow_other", "umask=077")
        os.chmod(self.folder, 0o755)
        stranger = [*harness.AS_NOBODY, shutil.which("python3"), "-c",
                    f"import os; os.getxattr({daemon.disk!r}, {STATS!r})"]
        self.assertIn("Permission denied", run(*stranger, expect=1).stderr)
        os.chmod(daemon.disk, 0o644)
        os.chmod(daemon.point, 0o755)
        run(*stranger)
        stranger[-1] = f"import os; os.setxattr({daemon.disk!r}, {COMMIT_INTERVAL!r}, b'1')"
        self.assertIn("Permission denied", run(*stranger, expect=1).stderr)
        daemon.unmount()

    def test_a_write_costs_no_more_requests(self):
        """The kernel must not ask for security.capability before each write."""
        for options in ([], ["writeback_cache"]):
            image = self.create(4 * MiB, name=f"disk{len(options)}.qcow2")
            point = self.path(f"point{len(options)}")
            os.mkdir(point)
            process = self.start(point, "-d", *(["-o", *options] if options else []), image, point)
            disk = os.path.join(point, os.path.basename(image).replace(".qcow2", ".raw"))
            report(disk)  # the kernel knows now that there are attributes
            with open(disk, "r+b", buffering=0) as file:
                for number in range(100):
                    file.write(content.text(8 * KiB, number))
            run(QCOWFS, "umount", point)
            self.assertEqual(self.end(process), 0)
            said = harness.read_text(process.log)
            self.assertGreater(len(re.findall(r"opcode: WRITE\b", said)), 0 if options else 99)
            self.assertLess(len(re.findall(r"opcode: GETXATTR\b", said)), 8)

    def test_writing_drops_the_set_id_bits(self):
        daemon = self.mount(self.create(MiB))
        for change in (lambda: harness.write_at(daemon.disk, 0, b"x"), lambda: os.truncate(daemon.disk, 2 * MiB),
                       lambda: os.chown(daemon.disk, os.geteuid(), os.getegid())):
            os.chmod(daemon.disk, 0o6755)
            self.assertEqual(stat.S_IMODE(os.stat(daemon.disk).st_mode), 0o6755)
            change()
            self.assertEqual(stat.S_IMODE(os.stat(daemon.disk).st_mode), 0o755)
        daemon.unmount()


class Status(harness.MountCase):
    def test_for_people(self):
        for over_file in (False, True):
            daemon = self.mount(self.create(8 * MiB, name=f"disk{over_file}.qcow2"), over_file=over_file)
            self.assertIn("nothing yet", run(QCOWFS, "status", daemon.point).stdout)
            harness.write_at(daemon.disk, 0, content.text(2 * MiB, 1))
            harness.fsync(daemon.disk)
            for path in (daemon.point, daemon.disk):
                said = run(QCOWFS, "status", path).stdout
                self.assertRegex(said, r"(?m)^stored +2\.0 MiB of the disk as .*, ratio \d+\.\d\d$")
                self.assertRegex(said, r"(?m)^  write +\d+ +2\.0 MiB .* (us|ms|s) +0$")
                self.assertNotIn("FAILURE", said)
            daemon.unmount()

    def test_for_programs(self):
        daemon = self.mount(self.create(8 * MiB))
        harness.write_at(daemon.disk, 0, content.text(MiB, 1))
        said = json.loads(run(QCOWFS, "status", "--json", daemon.point).stdout)
        self.assertEqual(said["requests"]["write"]["bytes"], MiB)
        self.assertEqual(set(said), set(report(daemon.disk)))
        daemon.unmount()

    def test_for_prometheus(self):
        daemon = self.mount(self.create(8 * MiB))
        harness.write_at(daemon.disk, 0, content.text(MiB, 1))
        said = run(QCOWFS, "status", "--prometheus", daemon.point).stdout
        described = set()
        for line in said.splitlines():
            if line.startswith("# "):
                described.add(line.split()[2])
                continue
            sample = re.fullmatch(r'(qcowfs_\w+)\{mountpoint="([^"]*)"(,\w+="[\w.]+")*\} \d+(\.\d+)?(e-?\d+)?', line)
            self.assertIsNotNone(sample, line)
            self.assertEqual(sample.group(2), daemon.point)
            self.assertIn(sample.group(1).removesuffix("_count"), described)
        self.assertIn(f'qcowfs_request_bytes_total{{mountpoint="{daemon.point}",kind="write"}} {MiB}\n', said)
        self.assertIn(f'qcowfs_failed{{mountpoint="{daemon.point}"}} 0\n', said)
        daemon.unmount()

    def test_watching_ends_with_the_mount(self):
        daemon = self.mount(self.create(8 * MiB))
        watcher = subprocess.Popen([QCOWFS, "status", "--watch", "--json", daemon.point], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(watcher.wait)
        self.addCleanup(watcher.kill)
        first = json.loads(watcher.stdout.readline())
        second = json.loads(watcher.stdout.readline())
        self.assertGreater(second["uptime-seconds"], first["uptime-seconds"])
        while run(QCOWFS, "umount", daemon.point, expect=None).returncode != 0:
            time.sleep(0.05)  # it was asked just then
        rest, complaint = watcher.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual((watcher.returncode, complaint), (0, ""), rest)

    def test_looking_is_no_use_of_the_disk(self):
        daemon = self.mount(self.create(MiB), "timeout=2")

        def gone():
            run(QCOWFS, "status", daemon.point, expect=None)
            return daemon.point not in harness.mounts()

        harness.wait_for(gone, 60)
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 60)
        daemon.must_be_over()

    def test_what_it_refuses(self):
        self.refused(QCOWFS, "status", self.folder, names=[self.folder], says="neither a mount")
        self.refused(QCOWFS, "status", self.path("missing"), names=[self.path("missing")], says="no such file")
        self.refused(QCOWFS, "status")
        self.refused(QCOWFS, "status", "--json", "--prometheus", self.folder, says="--json")
        daemon = self.mount(self.create(MiB))
        os.kill(daemon.pid, signal.SIGKILL)
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 20)
        self.refused(QCOWFS, "status", daemon.point, names=[daemon.point], says="died; .*qcowfs umount")
        run(QCOWFS, "umount", daemon.point)


if __name__ == "__main__":
    harness.main()
