#!/usr/bin/env -S python3 -B
"""What is typed: verbs, options, mount points, exit statuses, and one clear line where something is wrong."""

import contextlib
import errno
import json
import os
import signal
import socket
import time

import content
import harness
from harness import KiB, MiB, QCOWFS, run


class Mount(harness.MountCase):
    def test_the_verb_may_be_written_out(self):
        image = self.create(MiB)
        daemon = self.mount(image, arguments=["mount"])
        harness.write_at(daemon.disk, 0, content.text(MiB, 1))
        daemon.unmount()
        self.judge(image, content.write_file(self.path("twin"), content.text(MiB, 1)))

    def test_options_after_the_operands(self):
        """The order of mount(8)'s helpers: IMAGE MOUNTPOINT -o OPTIONS."""
        image = self.create(MiB)
        point = self.path("point")
        os.mkdir(point)
        process = self.start(point, image, point, "-f", "-o", "ro")
        with self.assertRaises(OSError):
            open(os.path.join(point, "disk.raw"), "r+b")
        run(QCOWFS, "umount", point)
        self.assertEqual(self.end(process), 0)

    def test_names_of_the_disk(self):
        for name, disk in [("a.qcow2", "a.raw"), ("b.img", "b.img.raw"), ("c d.qcow2", "c d.raw"),
                           ("é", "é.raw"), ("comma,and=more.qcow2", "comma,and=more.raw")]:
            with self.subTest(name=name):
                image = self.create(MiB, name=name)
                daemon = self.mount(image)
                self.assertEqual(os.listdir(daemon.point), [disk])
                daemon.unmount()

    def test_a_relative_path(self):
        image = self.create(MiB)
        point = self.path("relative")
        os.mkdir(point)
        self.addCleanup(lambda: point in harness.mounts() and run("umount", point))
        if harness.SANITIZED:
            return  # the daemon's log could not be watched
        run(QCOWFS, "disk.qcow2", "relative", cwd=self.folder)
        harness.write_at(self.path("relative/disk.raw"), 0, content.text(MiB, 1))
        run(QCOWFS, "umount", "relative", cwd=self.folder)
        self.judge(image, content.write_file(self.path("twin"), content.text(MiB, 1)))

    def test_over_a_regular_file(self):
        image = self.create(8 * MiB)
        twin = self.twin(8 * MiB)
        daemon = self.mount(image, over_file=True)
        self.assertTrue(os.path.isfile(daemon.disk))
        self.assertEqual(os.path.getsize(daemon.disk), 8 * MiB)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 12345, content.mixed(3 * MiB, 1))
            harness.punch(disk, MiB, 100001)
            os.truncate(disk, 9 * MiB + 512)
        self.assert_same_bytes(daemon.disk, twin)
        source = content.write_file(self.path("source"), content.mixed(7 * MiB, 2))
        run("cp", source, daemon.disk)
        self.assert_same_bytes(daemon.disk, source)
        daemon.unmount()
        self.assertEqual(os.path.getsize(daemon.disk), 0, "the file below is as it was")
        self.judge(image, source)

    def test_over_the_image_itself(self):
        """The disk in the image's place: the image stays reachable for the daemon, and only for it."""
        image = self.create(MiB)
        done = run(QCOWFS, image, image, expect=None)
        self.addCleanup(lambda: image in harness.mounts() and run("umount", image))
        if done.returncode == 0:
            self.assertEqual(os.path.getsize(image), MiB)
            harness.write_at(image, 0, content.text(MiB, 1))
            run(QCOWFS, "umount", image)
            self.judge(image, content.write_file(self.path("twin"), content.text(MiB, 1)))
        else:
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.check(image)

    def test_read_only(self):
        data = content.mixed(4 * MiB, 1)
        image = self.path("disk.qcow2")
        raw = content.write_file(self.path("disk.raw"), data)
        run("qemu-img", "convert", "-c", "-O", "qcow2", raw, image)
        before = sha256(image)
        for mount in (lambda: self.mount(image, arguments=["-r"]), lambda: self.mount(image, "ro"),
                      lambda: self.mount(image, "ro", over_file=True)):
            daemon = mount()
            self.assert_same_bytes(daemon.disk, raw)
            for attempt in (lambda: open(daemon.disk, "r+b"), lambda: os.truncate(daemon.disk, 0)):
                with self.assertRaises(OSError) as caught:
                    attempt()
                self.assertIn(caught.exception.errno, (errno.EROFS, errno.EACCES))
            daemon.unmount()
            self.assertEqual(sha256(image), before)

    def test_a_read_only_file_can_be_mounted_read_only(self):
        image = self.create(MiB)
        os.chmod(image, 0o444)
        daemon = self.mount(image, arguments=["-r"])
        self.assertEqual(harness.read_at(daemon.disk, 0, 10), bytes(10))
        daemon.unmount()

    def test_every_option(self):
        image = self.create(8 * MiB)
        twin = self.twin(8 * MiB)
        rows = [
            ["workers=1"], ["workers=7"], ["level=1"], ["level=9"], ["cache_size=8M"], ["cache_size=64M"],
            ["window=4k"], ["window=32k"], ["window=32k", "level=5"], ["window=32k", "level=9"],
            ["direct=off"], ["direct=auto"], ["commit_interval=1"], ["commit_interval=3600"],
            ["default_permissions"], ["fsname=something"], ["subtype=qcow2"], ["uid=0", "gid=0", "umask=077"],
            ["defaults", "nofail", "noauto", "_netdev", "user", "x-systemd.automount", "x-gvfs-hide"],
            ["rw"], ["workers=1", "level=9", "cache_size=8M", "direct=off"],
        ]
        if os.geteuid() == 0:
            rows += [["allow_other"], ["allow_root"], ["allow_other", "default_permissions", "umask=022"]]
        for number, options in enumerate(rows):
            with self.subTest(options=options):
                daemon = self.mount(image, *options)
                for disk in (daemon.disk, twin):
                    harness.write_at(disk, number * 100001, content.mixed(3 * MiB, number))
                self.assert_same_bytes(daemon.disk, twin)
                daemon.unmount()
                self.judge(image, twin)

    def test_options_may_be_given_apart(self):
        image = self.create(MiB)
        daemon = self.mount(image, "workers=2", arguments=["-o", "level=3", "-o", "ro"])
        with self.assertRaises(OSError):
            open(daemon.disk, "r+b")
        daemon.unmount()

    def test_direct_io_on_the_image(self):
        image = self.create(4 * MiB)
        twin = self.twin(4 * MiB)
        try:
            os.close(os.open(image, os.O_RDWR | os.O_DIRECT))
        except OSError as error:
            self.refused(QCOWFS, "-o", "direct=on", image, self.folder, names=[image], says="direct")
            self.lacks(f"the file system below {self.folder} has no O_DIRECT: {error.strerror}")
        daemon = self.mount(image, "direct=on")
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 777, content.mixed(3 * MiB, 1))
        daemon.unmount()
        self.judge(image, twin)

    def test_names_in_the_mount_table(self):
        image = self.create(MiB)
        daemon = self.mount(image, "fsname=the-name", "subtype=the-type")
        with open("/proc/self/mounts", encoding="utf-8") as file:
            line = next(line.split() for line in file if line.split()[1] == daemon.point)
        self.assertEqual((line[0], line[2]), ("the-name", "fuse.the-type"))
        daemon.unmount()
        daemon = self.mount(image)
        self.assertEqual(harness.mounts()[daemon.point], "fuse.qcowfs")
        daemon.unmount()

    def test_owner_and_mode(self):
        if os.geteuid() != 0:
            self.lacks("another owner can be seen by root only")
        image = self.create(MiB)
        daemon = self.mount(image, "uid=1234", "gid=4321", "umask=027", "allow_other")
        facts = os.stat(daemon.disk)
        self.assertEqual((facts.st_uid, facts.st_gid, facts.st_mode & 0o7777 & 0o027), (1234, 4321, 0))
        daemon.unmount()

    def test_it_returns_when_the_mount_is_live_and_holds_nothing_open(self):
        """mount(8) hangs where a helper's daemon keeps its pipes; run() returns only when they are closed."""
        image = self.create(MiB)
        point = self.path("point")
        os.mkdir(point)
        if harness.SANITIZED:
            return  # runs in the foreground
        done = run(QCOWFS, image, point, timeout=20)
        self.addCleanup(lambda: point in harness.mounts() and run("umount", "-l", point))
        self.assertEqual(os.listdir(point), ["disk.raw"])
        self.assertEqual((done.stdout, done.stderr), ("", ""))
        pid = harness.find_daemon(image)
        self.assertNotEqual(os.getsid(pid), os.getsid(0))
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        run(QCOWFS, "umount", point)


class Unmount(harness.MountCase):
    def test_it_returns_when_the_image_is_released(self):
        image = self.create(64 * MiB)
        for number in range(5):
            source = content.write_file(self.path("source"), content.text(24 * MiB, number))
            daemon = self.mount(image)
            run("dd", f"if={source}", f"of={daemon.disk}", "bs=1M", "conv=notrunc")
            run(QCOWFS, "umount", daemon.point)
            self.check(image)  # at once: takes the lock and sees everything
            self.assertNotIn(daemon.point, harness.mounts())
            daemon.must_be_over()

    def test_a_busy_mount(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        with open(daemon.disk, "r+b") as file:
            self.refused(QCOWFS, "umount", daemon.point, names=[daemon.point], says="busy|in use")
            file.write(b"still here")
        self.assertEqual(harness.read_at(daemon.disk, 0, 10), b"still here")
        daemon.unmount()
        self.check(image)

    def test_plain_umount(self):
        if os.geteuid() != 0:
            self.lacks("umount(8) needs root")
        self.unmount_by(["umount"])

    def test_fusermount(self):
        self.unmount_by(["fusermount3", "-u"])

    def unmount_by(self, command):
        image = self.create(4 * MiB)
        twin = self.twin(4 * MiB)
        daemon = self.mount(image)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 999, content.mixed(3 * MiB, 1))
        run(*command, daemon.point)
        daemon.must_be_over()  # the flush may still have been under way
        self.judge(image, twin)

    def test_what_could_not_be_stored_is_said(self):
        """The host's file system is too small: an error at a write, or at the unmount; never silence."""
        if os.geteuid() != 0:
            self.lacks("only root can make a small file system")
        host = self.path("host")
        os.mkdir(host)
        run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", host)
        self.addCleanup(run, "umount", host)
        image = os.path.join(host, "disk.qcow2")
        run(QCOWFS, "create", image, 64 * MiB)
        for size in (5 * MiB, 20 * MiB):
            with self.subTest(size=size):
                self.fill(image, content.noise(size, size), room=6 * MiB)

    def fill(self, image, data, room):
        point = self.path(f"point-{self.next_number()}")
        os.mkdir(point)
        process = self.start(point, "-f", image, point)
        refused_at = None
        try:
            for offset in range(0, len(data), MiB):
                refused_at = offset
                harness.write_at(os.path.join(point, "disk.raw"), offset, data[offset:offset + MiB])
            refused_at = None
        except OSError as error:
            self.assertIn(error.errno, (errno.ENOSPC, errno.EIO))
        done = run(QCOWFS, "umount", point, expect=None)
        status = self.end(process)
        self.assertNotIn(point, harness.mounts())
        self.assertEqual(done.returncode == 0, status == 0, (done.stderr, status))
        if done.returncode != 0:
            self.assertGreater(len(data), room, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        elif refused_at is None:
            self.assertLess(len(data), room, "more was taken than there is room for")
        judged = run("qemu-img", "check", "-q", "-f", "qcow2", image, expect=None)
        self.assertIn(judged.returncode, (0, 3), judged.stdout)  # at worst leaks
        if len(data) < room:
            self.assertEqual((done.returncode, refused_at, judged.returncode), (0, None, 0))

    def test_what_is_not_ours(self):
        self.refused(QCOWFS, "umount", self.folder, names=[self.folder], says="not|no ")
        self.refused(QCOWFS, "umount", self.path("missing"), names=[self.path("missing")])
        self.refused(QCOWFS, "umount", "/proc", names=["/proc"])
        self.refused(QCOWFS, "umount")
        self.assertIn("/proc", harness.mounts())


class Signals(harness.MountCase):
    def stop_by(self, signal_number):
        image = self.create(16 * MiB)
        twin = self.twin(16 * MiB)
        daemon = self.mount(image, "commit_interval=3600")
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 4321, content.mixed(12 * MiB, signal_number))
        os.kill(daemon.pid, signal_number)
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 60)
        daemon.must_be_over()
        self.judge(image, twin)

    def test_sigterm(self):
        self.stop_by(signal.SIGTERM)

    def test_sigint(self):
        self.stop_by(signal.SIGINT)

    def test_sighup(self):
        self.stop_by(signal.SIGHUP)

    def test_what_is_being_stored_after_an_unmount_is_not_killed(self):
        """As at a shutdown: umount(8), then SIGTERM to all. The host's file system takes nothing before that."""
        device = self.loop_device(self.twin(64 * MiB, "host"))
        run("mkfs.ext4", "-q", device)
        host = self.loop_mount(device)
        image = os.path.join(host, "disk.qcow2")
        run(QCOWFS, "create", image, 4 * MiB)
        log = self.path("log")
        daemon = self.mount(image, "commit_interval=3600", f"log={log}")
        data = content.write_file(self.path("data"), content.mixed(4 * MiB, 1))
        run("cp", data, daemon.disk)
        run("fsfreeze", "--freeze", host)
        thaw = self.enterContext(contextlib.ExitStack())
        thaw.callback(run, "fsfreeze", "--unfreeze", host)
        run("umount", daemon.point)
        harness.wait_for(lambda: ": unmounted" in harness.read_text(log), 60)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            time.sleep(0.1)
            os.kill(daemon.pid, number)
        thaw.close()
        daemon.must_be_over()
        self.judge(image, data)

    def test_foreground_ends_with_success_and_logs_to_stderr(self):
        image = self.create(4 * MiB)
        twin = self.twin(4 * MiB)
        point = self.path("point")
        os.mkdir(point)
        process = self.start(point, "-f", image, point)
        for disk in (os.path.join(point, "disk.raw"), twin):
            harness.write_at(disk, 1, content.text(MiB, 1))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process), 0)
        self.assertNotIn(point, harness.mounts())
        self.judge(image, twin)

    def test_debug_implies_foreground_and_tells_requests(self):
        image = self.create(MiB)
        point = self.path("point")
        os.mkdir(point)
        process = self.start(point, "-d", image, point)
        harness.write_at(os.path.join(point, "disk.raw"), 0, b"x")
        self.assertIsNone(process.poll())
        run(QCOWFS, "umount", point)
        self.assertEqual(self.end(process), 0)
        self.assertGreater(os.path.getsize(process.log), 0)


class Create(harness.MountCase):
    def test_what_it_makes(self):
        for arguments, size, cluster_size, compression in [
                (["1M"], MiB, 64 * KiB, "zlib"), (["10G"], 10 << 30, 64 * KiB, "zlib"),
                (["--cluster-size", "4K", "3M"], 3 * MiB, 4 * KiB, "zlib"),
                (["--cluster-size", "2M", "--compression", "zstd", "100M"], 100 * MiB, 2 * MiB, "zstd"),
                (["--compression", "zstd", "--cluster-size", "512", "12345"], 12800, 512, "zstd"),
                (["0"], 0, 64 * KiB, "zlib"), (["1T"], 1 << 40, 64 * KiB, "zlib")]:
            with self.subTest(arguments=arguments):
                image = self.path("-".join(arguments).replace("--", "") + ".qcow2")
                done = run(QCOWFS, "create", *arguments[:-1], image, arguments[-1])
                self.assertEqual(done.stderr, "")
                facts = self.info(image)
                self.assertEqual((facts["virtual-size"], facts["cluster-size"],
                                  facts["format-specific"]["data"]["compression-type"]),
                                 (size, cluster_size, compression))
                self.check(image)
                self.assertEqual(os.path.getsize(image) % 512, 0)

    def test_what_it_refuses(self):
        for number, (arguments, says) in enumerate([
                (["--cluster-size", "1000"], "cluster"), (["--cluster-size", "256"], "cluster"),
                (["--cluster-size", "4M"], "cluster"), (["--cluster-size", "x"], "cluster"),
                (["--cluster-size", "-4096"], None), (["--compression", "lz4"], "lz4|compression"),
                (["--nonsense"], "nonsense")]):
            image = self.path(f"{number}.qcow2")
            self.refused(QCOWFS, "create", *arguments, image, "1M", says=says)
            self.assertFalse(os.path.exists(image))
        for number, size in enumerate(["abc", "-1", "1Q", "", "9999999999999999999999", "8E", "1.5.5M"]):
            image = self.path(f"size-{number}.qcow2")
            self.refused(QCOWFS, "create", image, size)
            self.assertFalse(os.path.exists(image), size)
        self.refused(QCOWFS, "create")
        self.refused(QCOWFS, "create", self.path("no-size.qcow2"))
        nowhere = self.path("missing/a.qcow2")
        self.refused(QCOWFS, "create", nowhere, "1M", names=[nowhere])
        self.refused(QCOWFS, "create", self.path("a.qcow2"), "1M", "more")
        self.assertFalse(os.path.exists(self.path("a.qcow2")))

    def test_an_existing_file_stays(self):
        precious = content.write_file(self.path("precious"), b"do not touch")
        self.refused(QCOWFS, "create", precious, "1M", names=[precious], says="exists")
        self.assertEqual(harness.read_at(precious, 0, 100), b"do not touch")


class Info(harness.MountCase):
    def facts(self, image):
        """What QEMU says too."""
        facts = json.loads(run(QCOWFS, "info", "--json", image).stdout)
        facts.pop("qcowfs", None)
        return facts

    def test_it_counts_the_clusters(self):
        raw = content.write_file(self.path("raw"), content.text(20 * 64 * KiB, 1) + content.noise(3 * 64 * KiB, 2) +
                                 bytes(64 * KiB) + b"end")
        image = self.create(4 * MiB)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, harness.read_at(raw, 0, 2 * MiB))
        harness.write_at(daemon.disk, 3 * MiB, b"x" * 64 * KiB)
        harness.punch(daemon.disk, 3 * MiB, 64 * KiB)
        daemon.unmount()
        counts = json.loads(run(QCOWFS, "info", "--json", image).stdout)["qcowfs"]
        self.assertEqual((counts["compressed-clusters"], counts["standard-clusters"]), (21, 3))
        figures = self.check(image)
        self.assertEqual(figures["allocated-clusters"], 24)
        self.assertAlmostEqual(counts["ratio"], 24 * 64 * KiB / counts["stored-bytes"], places=6)
        self.assertGreater(counts["ratio"], 1.5)
        self.assertIn("21 compressed, 3 standard", run(QCOWFS, "info", image).stdout)

    def test_it_agrees_with_qemu(self):
        image = self.create(16 * MiB, "--cluster-size", "4K", "--compression", "zstd")
        for path in (image, self.create_by_qemu(10 * MiB, "compat=0.10,cluster_size=512", name="v2.qcow2"),
                     self.create_by_qemu(10 * MiB, "refcount_bits=64", name="wide.qcow2")):
            self.assertEqual(self.facts(path), self.info(path))
            human = run(QCOWFS, "info", path)
            self.assertIn(path, human.stdout)
            self.assertEqual(human.stderr, "")

    def test_it_says_what_qemu_says_of_images_with_more(self):
        base = content.write_file(self.path("base.raw"), bytes(MiB))
        overlay = self.path("overlay.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", overlay)
        absolute = self.path("absolute.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, absolute)
        kept = self.create_by_qemu(4 * MiB, name="kept.qcow2")
        for name in ("one", "two"):
            run("qemu-img", "snapshot", "-c", name, kept)
            run("qemu-img", "bitmap", "--add", "-g", "128k", kept, f"bitmap {name}")
        run("qemu-img", "bitmap", "--disable", kept, "bitmap one")
        for image in (overlay, absolute, kept, self.create_by_qemu(MiB, "extended_l2=on", "extended.qcow2"),
                      self.create_by_qemu(MiB, f"data_file={self.path('d.raw')},data_file_raw=on", "data.qcow2"),
                      self.create_by_qemu(MiB, f"data_file={self.path('e.raw')}", "data2.qcow2"),
                      self.create_by_qemu(MiB, "lazy_refcounts=on", "lazy.qcow2"),
                      self.create_by_qemu(MiB, "compat=0.10", "old.qcow2")):
            with self.subTest(image=os.path.basename(image)):
                self.assertEqual(self.facts(image), self.info(image))
                self.assertIn(image, run(QCOWFS, "info", image).stdout)

    def test_it_works_on_a_mounted_image_and_changes_nothing(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        json.loads(run(QCOWFS, "info", "--json", image).stdout)
        daemon.unmount()
        self.check(image)

    def test_what_it_refuses(self):
        self.refused(QCOWFS, "info", self.path("missing"), names=[self.path("missing")], says="no such file")
        self.refused(QCOWFS, "info", self.folder, names=[self.folder])
        text = content.write_file(self.path("text"), content.text(5000, 1))
        self.refused(QCOWFS, "info", text, names=[text], says="qcow2")
        self.refused(QCOWFS, "info")


class Arguments(harness.MountCase):
    def test_help_and_version(self):
        for flag in ("-h", "--help"):
            done = run(QCOWFS, flag)
            for word in ("MOUNTPOINT", "IMAGE", "umount", "create", "info", "check", "cache_size", "level", "workers"):
                self.assertIn(word, done.stdout)
        for flag in ("-V", "--version"):
            self.assertRegex(run(QCOWFS, flag).stdout, r"^qcowfs \d+\.\d+\.\d+")

    def test_bad_arguments(self):
        image = self.create(MiB)
        before = sha256(image)
        point = self.path("point")
        os.mkdir(point)
        for arguments in ([], [image, point, "more"], ["-o"], ["frobnicate", image, point]):
            self.refused(QCOWFS, *arguments)
        for arguments, says in [([image], "mount ?point"), (["--nonsense", image, point], "nonsense"),
                                (["-x", image, point], "-x")]:
            self.refused(QCOWFS, *arguments, says=says)
        for option in ("nonsense", "nonsense=1", "level=0", "level=10", "level=x", "level", "level=",
                       "direct=maybe", "workers=0", "workers=-1", "workers=99999999", "workers=2x",
                       "cache_size=x", "cache_size=1", "cache_size=-5M", "commit_interval=x", "commit_interval=-1",
                       "uid=x", "umask=9", "window=5k", "window=", "sandbox=maybe", "sandbox"):
            self.refused(QCOWFS, "-o", option, image, point, says=option.split("=")[0])
            self.assertNotIn(point, harness.mounts(), option)
        self.assertEqual(sha256(image), before)

    def test_bad_mount_points(self):
        image = self.create(MiB)
        before = sha256(image)
        missing = self.path("missing")
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(self.path("socket"))
            for point in (missing, pipe, self.path("socket"), "/dev/null"):
                self.refused(QCOWFS, image, point, names=[point])
                self.assertNotIn(point, harness.mounts())
        self.assertEqual(sha256(image), before)
        daemon = self.mount(image)  # nothing was left behind that holds the lock
        daemon.unmount()


def sha256(path):
    return run("sha256sum", path).stdout.split()[0]


if __name__ == "__main__":
    harness.main()
