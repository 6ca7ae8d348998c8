#!/usr/bin/env -S python3 -B
"""How a mount begins and ends beside being asked to: images made on the way, who is told that it is live,
the process id file, idleness, and what a killed daemon leaves behind."""

import os
import signal
import subprocess
import time

import content
import harness
from harness import MiB, QCOWFS, run


class LifecycleCase(harness.MountCase):
    def folder_named(self, name):
        folder = self.path(name)
        os.mkdir(folder)
        self.addCleanup(lambda: folder in harness.mounts() and run(QCOWFS, "umount", folder))
        return folder


class CreateOnMount(LifecycleCase):
    def test_a_missing_image_is_made_and_an_existing_one_kept(self):
        image = self.path("disk.qcow2")
        twin = self.twin(3 * MiB)
        daemon = self.mount(image, "create=3M")
        self.assertEqual(os.path.getsize(daemon.disk), 3 * MiB)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 5, content.mixed(2 * MiB, 1))
        daemon.unmount()
        daemon = self.mount(image, "create=7M")
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        self.judge(image, twin)

    def test_of_many_at_once_one_makes_it_and_mounts_it(self):
        image = self.path("disk.qcow2")
        points = [self.folder_named(f"point-{number}") for number in range(6)]
        attempts = [subprocess.Popen([QCOWFS, "-o", "create=1M", image, point], stdin=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True) for point in points]
        said = [attempt.communicate(timeout=60 * harness.PATIENCE)[1] for attempt in attempts]
        live = [point for point, attempt in zip(points, attempts) if attempt.returncode == 0]
        self.assertEqual(len(live), 1, said)
        for attempt, line in zip(attempts, said):
            if attempt.returncode != 0:
                self.assertRegex(line, "^qcowfs: .*in use.*\n$")
        harness.write_at(os.path.join(live[0], "disk.raw"), 0, content.text(MiB, 1))
        run(QCOWFS, "umount", live[0])
        self.judge(image, content.write_file(self.path("twin"), content.text(MiB, 1)))
        self.assertEqual([name for name in os.listdir(self.folder) if ".part" in name], [])

    def test_what_cannot_be_mounted_leaves_no_image(self):
        image = self.path("disk.qcow2")
        missing = self.path("missing")
        self.refused(QCOWFS, "-o", "create=1M", image, missing, names=[missing])
        point = self.folder_named("point")
        self.refused(QCOWFS, "-o", "create=1M,ro", image, point, says="create: .*read-only")
        self.refused(QCOWFS, "-o", "create=much", image, point, says="create=much: expected the size")
        self.refused(QCOWFS, "-o", "create=9000t", image, point, says="at most")
        self.assertEqual(sorted(os.listdir(self.folder)), ["point"])


class Idleness(LifecycleCase):
    def test_it_ends_what_nobody_uses(self):
        image = self.create(4 * MiB)
        twin = self.twin(4 * MiB)
        daemon = self.mount(image, "timeout=1", "commit_interval=3600")
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 99, content.mixed(3 * MiB, 1))
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 60)
        daemon.must_be_over()
        self.judge(image, twin)

    def test_an_open_file_keeps_it(self):
        daemon = self.mount(self.create(MiB), "timeout=1")
        with open(daemon.disk, "rb"):
            time.sleep(3)
            self.assertIn(daemon.point, harness.mounts())
        harness.wait_for(lambda: daemon.point not in harness.mounts(), 60)
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 60)
        daemon.must_be_over()

    def test_a_current_directory_keeps_it(self):
        daemon = self.mount(self.create(MiB), "timeout=1")
        resident = subprocess.Popen(["sleep", "600"], cwd=daemon.point)
        try:
            time.sleep(3)
            self.assertIn(daemon.point, harness.mounts())
        finally:
            resident.kill()
            resident.wait()
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 60)
        daemon.must_be_over()

    def test_a_signal_ends_it_too(self):
        image = self.create(MiB)
        daemon = self.mount(image, "timeout=3600")
        os.kill(daemon.pid, signal.SIGTERM)
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 60)
        daemon.must_be_over()
        self.check(image)


class Announcements(LifecycleCase):
    def told_by_descriptor(self, *words, expect):
        """All that is said on it. Its end comes although the daemon lives."""
        reads, writes = os.pipe()
        try:
            run(QCOWFS, "-o", f"ready_fd={writes}", *words, pass_fds=[writes], expect=expect)
        finally:
            os.close(writes)
        with os.fdopen(reads, "r", encoding="utf-8") as file:
            return file.read()

    def test_a_descriptor_is_told(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        self.assertEqual(self.told_by_descriptor(image, point, expect=0), "ready\n")
        self.assertEqual(os.listdir(point), ["disk.raw"])
        run(QCOWFS, "umount", point)
        missing = self.path("missing.qcow2")
        self.assertRegex(self.told_by_descriptor(missing, point, expect=1), f"^failed {missing}: .*No such file.*\n$")
        self.assertRegex(self.told_by_descriptor("-ononsense", image, point, expect=2), "^failed .*nonsense.*\n$")

    def test_a_pipe_is_told_whenever_it_is_read(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        for early in (True, False):
            with self.subTest(early=early):
                reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if early else None
                run(QCOWFS, "-o", f"notify_pipe={pipe}", image, point)
                if not early:
                    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
                self.assertEqual(os.read(reader, 100), b"ready\n")
                if early:
                    self.assertEqual(os.read(reader, 100), b"", "the end, although the daemon lives")
                os.close(reader)
                run(QCOWFS, "umount", point)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        run(QCOWFS, "-o", f"notify_pipe={pipe}", image, self.path("nowhere"), expect=1)
        self.assertRegex(os.read(reader, 1000).decode(), "^failed .*nowhere.*\n$")
        os.close(reader)

    def test_whom_nothing_can_be_told(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        text = content.write_file(self.path("text"), b"precious")
        self.refused(QCOWFS, "-o", f"notify_pipe={text}", image, point, names=[text], says="FIFO")
        self.refused(QCOWFS, "-o", f"notify_pipe={self.path('no')}", image, point, says="no such file")
        self.refused(QCOWFS, "-o", "ready_fd=77", image, point, says="ready_fd=77: not a descriptor")
        self.refused(QCOWFS, "-o", "ready_fd=-1", image, point, says="ready_fd=-1: expected")
        self.assertEqual(harness.read_at(text, 0, 100), b"precious")
        self.assertNotIn(point, harness.mounts())


class ProcessIdFile(LifecycleCase):
    def test_it_names_the_daemon_and_goes_with_it(self):
        pid_file = self.path("qcowfs.pid")
        for flag in ("-P", "--pidfile"):
            daemon = self.mount(self.create(MiB, name=f"{flag}.qcow2"), arguments=[flag, pid_file])
            self.assertEqual(harness.read_text(pid_file), f"{daemon.pid}\n")
            self.refused(QCOWFS, flag, pid_file, self.create(MiB, name=f"other{flag}.qcow2"), self.folder_named(flag),
                         names=[pid_file, str(daemon.pid)], says="another daemon")
            daemon.unmount()
            self.assertFalse(os.path.exists(pid_file))

    def test_what_a_killed_daemon_left_is_replaced_and_nothing_else(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        pid_file = content.write_file(self.path("qcowfs.pid"), b"4194304\n")
        run(QCOWFS, "-P", pid_file, image, point)
        self.assertEqual(harness.read_text(pid_file), f"{harness.find_daemon(image, point)}\n")
        run(QCOWFS, "umount", point)
        precious = content.write_file(self.path("precious"), b"do not touch\n")
        self.refused(QCOWFS, "-P", precious, image, point, names=[precious], says="not overwritten")
        self.refused(QCOWFS, "-P", self.path("missing/a"), image, point, names=["missing/a"], says="no such file")
        self.assertEqual(harness.read_text(precious), "do not touch\n")
        self.assertNotIn(point, harness.mounts())

    def test_a_failed_mount_leaves_none(self):
        pid_file = self.path("qcowfs.pid")
        self.refused(QCOWFS, "-P", pid_file, self.path("missing.qcow2"), self.folder_named("point"))
        self.assertFalse(os.path.exists(pid_file))


class DeadMounts(LifecycleCase):
    def dead_mount(self, image, point, *options):
        run(QCOWFS, *options, image, point)
        pid = harness.find_daemon(image, point)
        os.kill(pid, signal.SIGKILL)
        harness.wait_for(lambda: not harness.is_running(pid), 20)
        with self.assertRaises(OSError):
            os.listdir(point)

    def test_the_next_mount_takes_it_away(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        for options in ([], ["-o", "auto_unmount"]):
            with self.subTest(options=options):
                self.dead_mount(image, point, *options)
                run(QCOWFS, image, point)
                harness.write_at(os.path.join(point, "disk.raw"), 0, content.text(MiB, 1))
                with open("/proc/self/mounts", encoding="utf-8") as file:
                    self.assertEqual(sum(line.split()[1] == point for line in file), 1)
                run(QCOWFS, "umount", point)
                self.judge(image, content.write_file(self.path("twin"), content.text(MiB, 1)))

    def test_umount_takes_it_away(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        self.dead_mount(image, point)
        done = run(QCOWFS, "umount", point)
        self.assertRegex(done.stderr, f"^qcowfs: {point}: .*died.*\n$")
        self.assertNotIn(point, harness.mounts())
        self.check(image)


if __name__ == "__main__":
    harness.main()
