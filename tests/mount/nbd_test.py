#!/usr/bin/env -S python3 -B
"""Images on NBD servers: each kind of server, what a server can and cannot do, and what it may do to us.

(data_test.py, kill_test.py and others run over NBD too: QCOWFS_DOOR.)

QCOWFS_CUT_ROUNDS  how often a connection is cut under writers
QCOWFS_SEED        of everything random there
"""

import errno
import os
import random
import re
import signal
import socket
import threading
import time

import content
import foreground
import harness
import kill_test
import nbd_server
from harness import KiB, MiB, QCOWFS, run, scaled
from web_server import WebServer

DISK_SIZE = 24 * MiB
EXPORT_SIZE = 96 * MiB
ROUNDS = int(os.environ.get("QCOWFS_CUT_ROUNDS") or scaled(40, 8))
SEED = int(os.environ.get("QCOWFS_SEED") or random.SystemRandom().randrange(1 << 32))


class ServedCase(harness.MountCase):
    def setUp(self):
        super().setUp()
        self.point = self.path("point")
        os.mkdir(self.point)

    def file_to_serve(self, *options, size=EXPORT_SIZE, name="disk.qcow2", disk_size=DISK_SIZE):
        """A file of `size` bytes that begins with an empty image."""
        path = self.path(name)
        run(QCOWFS, "create", *options, path, disk_size)
        os.truncate(path, size)
        return path

    def served(self, *words, **how):
        return nbd_server.nbdkit(self, *words, **how)

    def served_by_tls(self, path):
        keys = self.path("keys")
        with open(keys, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write("somebody:" + "5a" * 32 + "\n")
        return self.served("file", path, options=("--tls=require", f"--tls-psk={keys}"), export="disk.qcow2",
                           scheme="nbds", user="somebody", query=f"&tls-psk-file={keys}")

    def change(self, uri, twin, seed, *options, rounds=2):
        """Mounts, changes the disk and its twin at random, unmounts, and lets QEMU judge, over the same door."""
        source = random.Random(seed)
        for _ in range(rounds):
            daemon = self.mount(uri, *options)
            for _ in range(scaled(60, 15)):
                harness.change_at_random(source, (daemon.disk, twin), DISK_SIZE)
            harness.fsync(daemon.disk)
            harness.change_at_random(source, (daemon.disk, twin), DISK_SIZE)
            daemon.unmount()
            self.judge(uri, twin)


class Servers(ServedCase):
    def test_nbdkit_over_a_file(self):
        server = self.served("file", self.file_to_serve(), export="some.qcow2")
        self.change(server.uri, self.twin(DISK_SIZE), 1)
        run(QCOWFS, "check", server.uri)
        run(QCOWFS, "check", "--data", server.uri)
        run(QCOWFS, "compare", server.uri, self.path("twin.raw"))
        run(QCOWFS, "convert", server.uri, self.path("copy.qcow2"))
        self.judge(self.path("copy.qcow2"), self.path("twin.raw"))

    def test_nbdkit_in_memory_and_a_name_of_its_own(self):
        server = self.served("memory", EXPORT_SIZE)
        run("qemu-img", "create", "-q", "-f", "qcow2", server.uri, DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        source = random.Random(2)
        process = self.start(self.point, "-f", server.uri, self.point)
        disk = os.path.join(self.point, "disk.raw")
        for _ in range(20):
            harness.change_at_random(source, (disk, twin), DISK_SIZE)
        run(QCOWFS, "umount", self.point)
        self.assertEqual(self.end(process), 0)
        self.judge(server.uri, twin)

    def test_qemu_nbd(self):
        for shared in (1, 4):  # connections at a time
            path = self.file_to_serve(name=f"disk-{shared}.qcow2")
            server = nbd_server.qemu_nbd(self, path, f"--shared={shared}", export="an export.qcow2")
            self.change(server.uri.replace(" ", "%20"), self.twin(DISK_SIZE, f"twin-{shared}.raw"), shared)
            server.end()
            self.judge(path, self.path(f"twin-{shared}.raw"))

    def test_tcp(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = self.file_to_serve()
        server = self.served("file", path, options=("--port", port, "--ipaddr", "127.0.0.1"))
        harness.wait_for(lambda: self.answers(port), 20)
        self.assertFalse(os.path.exists(server.socket))
        self.change(f"nbd://127.0.0.1:{port}/disk.qcow2", self.twin(DISK_SIZE), 3)

    @staticmethod
    def answers(port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def test_tls(self):
        server = self.served_by_tls(self.file_to_serve())
        daemon = self.mount(server.uri)
        twin = self.twin(DISK_SIZE)
        for target in (daemon.disk, twin):
            harness.write_at(target, 0, content.mixed(DISK_SIZE, 5))
        harness.fsync(daemon.disk)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()
        run(QCOWFS, "compare", server.uri, twin)
        run("qemu-img", "check", "-q", "-f", "qcow2", self.path("disk.qcow2"))
        self.refused(QCOWFS, server.uri.replace("nbds", "nbd").replace("somebody@", ""), daemon.point,
                     says="cannot connect.*TLS")

    def test_a_compressed_image_on_the_web(self):
        """Only what is asked for is fetched."""
        image = self.path("cloud.qcow2")
        raw = content.write_file(self.path("raw"), content.noise(40 * MiB, 7))
        run(QCOWFS, "convert", raw, image)
        web = WebServer(self, image)
        server = self.served("curl", web.url, options=("--readonly",), export="cloud.qcow2")
        daemon = self.mount(server.uri, "ro")
        for at in (5 * MiB, 33 * MiB, 17 * MiB):
            self.assertEqual(harness.read_at(daemon.disk, at, 64 * KiB), harness.read_at(raw, at, 64 * KiB))
        self.assertLess(web.sent, 8 * MiB)
        self.assert_same_bytes(daemon.disk, raw)
        daemon.unmount()


class Abilities(ServedCase):
    """What servers lack, and what they insist on."""

    def test_large_blocks_and_short_requests(self):
        for smallest, longest in ((4 * KiB, 64 * KiB), (64 * KiB, 64 * KiB)):
            for cluster_size in (512, 64 * KiB) if smallest == 4 * KiB else (64 * KiB,):
                name = f"disk-{smallest}-{cluster_size}"
                path = self.file_to_serve("--cluster-size", cluster_size, name=name)
                server = self.served("--filter=blocksize-policy", "file", path, f"blocksize-minimum={smallest}",
                                     f"blocksize-preferred={longest}", f"blocksize-maximum={longest}",
                                     "blocksize-error-policy=error", export=name)
                twin = self.twin(DISK_SIZE, f"twin-{smallest}-{cluster_size}")
                self.change(server.uri, twin, smallest + cluster_size, rounds=1)

    def commands(self, log):
        return re.findall(r"connection=\d+ (Read|Write|Flush|Zero|Trim) (.*) \.\.\.", harness.read_text(log))

    def logged(self, *plugin):
        log = self.path("commands")
        return log, self.served("--filter=log", *plugin, f"logfile={log}", export="disk.qcow2")

    @staticmethod
    def given_back(commands, how):
        """Bytes."""
        return sum(int(re.search(r"count=(0x[0-9a-f]+)", words).group(1), 16)
                   for command, words in commands if command == how)

    def used(self, server, log):
        """The commands of a session that writes, syncs and gives all space back; and their parameters."""
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(server.uri)
        harness.write_at(daemon.disk, 0, content.noise(8 * MiB, 1))
        harness.fsync(daemon.disk)
        self.assertTrue(os.path.exists(log))
        at_sync = self.commands(log)
        harness.punch(daemon.disk, 0, 8 * MiB)
        daemon.unmount()
        self.judge(server.uri, twin)
        return at_sync, self.commands(log)

    def test_fsync_is_a_flush_and_freed_space_is_trimmed(self):
        log, server = self.logged("file", self.file_to_serve())
        at_sync, later = self.used(server, log)
        self.assertIn("Flush", [command for command, _ in at_sync])
        self.assertNotIn("fua=1", str(at_sync))
        self.assertGreater(self.given_back(later, "Trim"), 7 * MiB)
        self.assertEqual(self.given_back(later, "Zero"), 0)  # which this server may do slowly
        self.assertLess(os.stat(self.path("disk.qcow2")).st_blocks * 512, 2 * MiB)

    def test_freed_space_is_zeroed_where_that_is_fast(self):
        log, server = self.logged("memory", EXPORT_SIZE)
        run("qemu-img", "create", "-q", "-f", "qcow2", server.uri, DISK_SIZE)
        _, later = self.used(server, log)
        self.assertGreater(self.given_back(later, "Zero"), 7 * MiB)
        self.assertIn("fast=1", str(later))

    def test_trimming_is_but_advice(self):
        """A server that refuses it loses nothing, and neither do we."""
        log, server = self.logged("--filter=error", "file", self.file_to_serve(), "error-trim=EIO",
                                  "error-trim-rate=100%")
        _, later = self.used(server, log)
        self.assertIn("Trim", [command for command, _ in later])

    def test_a_last_block_that_is_cut_short(self):
        path = self.path("disk.qcow2")
        raw = content.write_file(self.path("raw"), content.noise(DISK_SIZE, 3))
        run(QCOWFS, "convert", raw, path)
        os.truncate(path, os.path.getsize(path) // 4096 * 4096 + 512)
        self.assertNotEqual(os.path.getsize(path) % 4096, 0)
        server = self.served("--filter=blocksize-policy", "file", path, "blocksize-minimum=4096",
                             "blocksize-preferred=4096", "blocksize-maximum=1M", export="disk.qcow2")
        self.refused(QCOWFS, server.uri, self.point, names=[server.uri], says="not whole blocks of 4096")
        daemon = self.mount(server.uri, "ro")
        self.assert_same_bytes(daemon.disk, raw)
        daemon.unmount()

    def without_flush(self, fua):
        path = self.file_to_serve()
        return self.served(
            "eval", f"get_size=stat -Lc %s {path}", "can_write=exit 0", "can_flush=exit 3", f"can_fua=echo {fua}",
            f"pread=dd if={path} skip=$4 count=$3 iflag=count_bytes,skip_bytes status=none",
            'pwrite=[ "$5" = fua ] || { echo EIO not durable >&2; exit 1; }; '
            f"dd of={path} seek=$4 conv=notrunc oflag=seek_bytes status=none", export="disk.qcow2")

    def test_without_flush_every_write_is_written_through(self):
        server = self.without_flush("native")
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(server.uri)
        for target in (daemon.disk, twin):
            harness.write_at(target, MiB, content.mixed(MiB, 1))
        harness.fsync(daemon.disk)
        daemon.unmount()
        self.judge(server.uri, twin)

    def test_who_can_make_nothing_durable_is_not_written_to(self):
        server = self.without_flush("none")
        self.refused(QCOWFS, server.uri, self.point, names=[server.uri], says="nothing would be durable; -r mounts it")
        run(QCOWFS, "-r", server.uri, self.point)
        run(QCOWFS, "umount", self.point)

    def test_a_read_only_export(self):
        server = self.served("file", self.file_to_serve(), options=("--readonly",), export="disk.qcow2")
        self.refused(QCOWFS, server.uri, self.point, names=[server.uri], says="read-only; -r mounts it so")
        daemon = self.mount(server.uri, "ro")
        self.assertEqual(harness.read_at(daemon.disk, 0, MiB), bytes(MiB))
        daemon.unmount()

    def test_the_export_is_no_larger_than_it_is(self):
        """What does not fit is told when it is written, and later writes find room again."""
        server = self.served("file", self.file_to_serve(size=8 * MiB), export="disk.qcow2")
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(server.uri)
        with self.assertRaises(OSError) as caught:
            harness.write_at(daemon.disk, 0, content.noise(DISK_SIZE, 1))
            harness.fsync(daemon.disk)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        harness.zero_range(daemon.disk, 0, DISK_SIZE)
        harness.fsync(daemon.disk)
        for target in (daemon.disk, twin):
            harness.write_at(target, MiB, content.noise(2 * MiB, 2))
        daemon.unmount()
        self.judge(server.uri, twin)


class Refused(ServedCase):
    """One clear line each, and nothing is mounted."""

    def refuse(self, uri, says, *options):
        self.refused(QCOWFS, *options, uri, self.point, names=[uri], says=says)
        self.assertNotIn(self.point, harness.mounts())

    def test_uris(self):
        self.refuse("nbd+unix:///disk", "cannot connect: .*socket")
        self.refuse("nbd+unix:///disk?socket=/none", "cannot connect: .*No such file")
        self.refuse("nbd:///a b", "cannot connect: unable to parse URI")
        self.refuse("nbd://host.invalid/disk", "cannot connect: .*not known|Temporary failure")
        self.refuse("nbd+carrier-pigeon://roof", "cannot connect: ")

    def test_nobody_listens(self):
        with socket.socket() as taken:  # bound, and nobody listens
            taken.bind(("127.0.0.1", 0))
            self.refuse(f"nbd://127.0.0.1:{taken.getsockname()[1]}/disk", "Connection refused")

    def test_somebody_listens_but_says_nothing(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            began = time.monotonic()
            self.refuse(f"nbd://127.0.0.1:{silent.getsockname()[1]}/disk", "does not answer within 1 s",
                        "-o", "request_timeout=1")
            self.assertLess(time.monotonic() - began, 20)

    def test_somebody_listens_who_is_no_nbd_server(self):
        web = WebServer(self, self.file_to_serve())
        self.refuse(web.url.replace("http:", "nbd:"), "does not answer", "-o", "request_timeout=1")

    def test_exports(self):
        path = self.file_to_serve()
        server = nbd_server.qemu_nbd(self, path, export="right")
        self.refuse(server.uri.replace("right", "wrong"), "cannot connect: .*wrong")
        server.end()
        noise = content.write_file(self.path("noise"), content.noise(MiB, 1))
        for kind in (noise, content.write_file(self.path("short"), b"QFI")):
            server = self.served("file", kind, export="disk")
            self.refuse(server.uri, "not a qcow2 image")
            self.refuse(server.uri, "not a qcow2 image", "-r")

    def test_images_that_need_other_files(self):
        base = self.file_to_serve(name="base.qcow2")
        run(QCOWFS, "create", "--backing", base, "--backing-format", "qcow2", self.path("top.qcow2"))
        os.truncate(self.path("top.qcow2"), MiB * 8)
        server = self.served("file", self.path("top.qcow2"), export="top.qcow2")
        self.refuse(server.uri, "backing file")

    def test_damaged_images_are_read_only(self):
        path = self.file_to_serve()
        run("qemu-io", "-f", "qcow2", "-c", f"write -P 7 0 {MiB}", path)
        with open(path, "r+b") as file:  # the first refcount block counts nothing
            file.seek(2 * 64 * KiB)
            file.write(bytes(64 * KiB))
        os.truncate(path, EXPORT_SIZE)
        server = self.served("file", path, export="disk.qcow2")
        done = run(QCOWFS, server.uri, self.point)
        self.assertRegex(done.stderr, "damaged: .*mounted read-only")
        self.assertEqual(harness.read_at(os.path.join(self.point, "disk.raw"), 0, MiB), b"\7" * MiB)
        run(QCOWFS, "umount", self.point)
        run(QCOWFS, "check", "--repair", "all", server.uri)
        self.check(server.uri)

    def test_what_reads_no_servers_says_so(self):
        for verb in (["info"], ["map"], ["compact"], ["create"], ["snapshot", "list"]):
            words = [*verb, "nbd://localhost/disk"]
            self.refused(QCOWFS, *words, *(["1m"] if verb == ["create"] else []), says="on a server; only mounting")
        self.refuse("nbd://localhost/disk", "no image is created on a server", "-o", "create=1m")


class Failures(ServedCase):
    """Errors are told, to whoever can act on them, and stay told; nobody waits for ever."""

    def written(self, daemon, synced=True):
        harness.write_at(daemon.disk, 0, content.noise(4 * MiB, 1))
        if synced:
            harness.fsync(daemon.disk)

    def fails(self, daemon, says, code=errno.EIO):
        """Everything fails from now on, and so do the unmount and the daemon."""
        for _ in range(2):
            with self.assertRaises(OSError) as caught:
                harness.write_at(daemon.disk, 8 * MiB, content.noise(MiB, 2))
                harness.fsync(daemon.disk)
            self.assertEqual(caught.exception.errno, code)
        done = daemon.unmount(expect=1)
        self.assertRegex(done.stderr, says)
        self.assertRegex(daemon.said(), says)

    def sound_with(self, path, begins_with):
        """The image holds what was synced."""
        self.assertIn(run("qemu-img", "check", "-q", "-f", "qcow2", path, expect=None).returncode, (0, 3))
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, self.path("raw"))
        self.assertEqual(harness.read_at(self.path("raw"), 0, len(begins_with)), begins_with)

    def test_a_server_that_is_killed(self):
        for serve in (lambda path: self.served("file", path), self.served_by_tls):
            path = self.file_to_serve(name=f"disk-{self.next_number()}.qcow2")
            server = serve(path)
            daemon = foreground.Foreground(self, server.uri, self.point)
            self.written(daemon)
            server.kill()
            self.fails(daemon, "connection to the NBD server is lost")
            self.sound_with(path, content.noise(4 * MiB, 1))

    def test_a_server_that_stalls(self):
        path = self.file_to_serve()
        server = self.served("file", path)
        daemon = foreground.Foreground(self, server.uri, self.point, "request_timeout=1")
        self.written(daemon)
        server.stall()
        began = time.monotonic()
        self.fails(daemon, "NBD server did not answer within 1 s")
        self.assertLess(time.monotonic() - began, 30)
        server.kill()
        self.sound_with(path, content.noise(4 * MiB, 1))

    def test_a_server_that_pauses_is_waited_for(self):
        path = self.file_to_serve()
        server = self.served("file", path)
        daemon = foreground.Foreground(self, server.uri, self.point, "request_timeout=60")
        self.written(daemon, synced=False)
        server.stall()
        time.sleep(1.5)
        server.go_on()
        harness.fsync(daemon.disk)
        daemon.unmount()
        self.sound_with(path, content.noise(4 * MiB, 1))

    def test_a_slow_way_is_not_a_stalled_server(self):
        """What waits for its turn behind others is not overdue as long as these are answered."""
        path = self.file_to_serve()
        server = self.served("--filter=rate", "file", path, "connection-rate=4M", "burstiness=0.1")
        daemon = foreground.Foreground(self, server.uri, self.point, "request_timeout=2")
        data = content.noise(10 * MiB, 5)
        harness.write_at(daemon.disk, 0, data)
        harness.fsync(daemon.disk)
        harness.forget_cached(daemon.disk)
        self.assertEqual(harness.read_at(daemon.disk, 0, len(data)), data)
        daemon.unmount()
        self.sound_with(path, data)

    def test_who_was_stopped_has_not_been_let_down(self):
        path = self.file_to_serve()
        server = self.served("--filter=delay", "file", path, "delay-write=300ms")
        daemon = foreground.Foreground(self, server.uri, self.point, "request_timeout=1")
        harness.write_at(daemon.disk, 0, content.noise(4 * MiB, 1))
        syncing = threading.Thread(target=harness.fsync, args=[daemon.disk])
        syncing.start()
        time.sleep(0.1)
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        daemon.process.send_signal(signal.SIGCONT)
        syncing.join()
        harness.fsync(daemon.disk)
        daemon.unmount()
        self.sound_with(path, content.noise(4 * MiB, 1))

    def test_writes_that_fail(self):
        path = self.file_to_serve()
        switch = self.path("fails")
        server = self.served("--filter=error", "file", path, "error-pwrite=EIO", "error-pwrite-rate=100%",
                             f"error-file={switch}")
        daemon = foreground.Foreground(self, server.uri, self.point)
        self.written(daemon)
        content.write_file(switch, b"")
        self.fails(daemon, "the NBD server refuses: Input/output error")
        os.unlink(switch)
        self.sound_with(path, content.noise(4 * MiB, 1))

    def test_reads_that_fail_sometimes_do_no_harm(self):
        path = self.file_to_serve()
        twin = self.twin(DISK_SIZE)
        server = self.served("file", path)
        daemon = foreground.Foreground(self, server.uri, self.point)
        for target in (daemon.disk, twin):
            harness.write_at(target, 0, content.noise(DISK_SIZE, 3))
        daemon.unmount()
        server.end()
        switch = self.path("fails")
        server = self.served("--filter=error", "file", path, "error-pread=EIO", "error-pread-rate=30%",
                             f"error-file={switch}")
        daemon = foreground.Foreground(self, server.uri, self.point)
        content.write_file(switch, b"")
        failed = 0
        for at in range(0, DISK_SIZE, 128 * KiB):
            try:
                self.assertEqual(harness.read_at(daemon.disk, at, 128 * KiB), harness.read_at(twin, at, 128 * KiB))
            except OSError as error:
                self.assertEqual(error.errno, errno.EIO)
                failed += 1
        self.assertGreater(failed, 0)
        os.unlink(switch)
        harness.forget_cached(daemon.disk)
        self.assert_same_bytes(daemon.disk, twin)
        daemon.unmount()

    def test_a_full_server_is_waited_for(self):
        """Nothing that was accepted is lost: there is room again, and all of it is stored."""
        if os.geteuid() != 0:
            self.lacks("a small file system needs root")
        small = self.mounted("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs")
        path = os.path.join(small, "disk.qcow2")
        run(QCOWFS, "create", path, DISK_SIZE)
        os.truncate(path, EXPORT_SIZE)
        server = self.served("file", path)
        daemon = foreground.Foreground(self, server.uri, self.point)
        data = content.noise(9 * MiB, 4)
        with self.assertRaises(OSError) as caught:
            harness.write_at(daemon.disk, 0, data)
            harness.fsync(daemon.disk)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        run("mount", "-o", "remount,size=40m", small)
        harness.wait_for(lambda: self.syncs(daemon), 20)
        harness.write_at(daemon.disk, 0, data)
        daemon.unmount()
        self.sound_with(path, data)
        server.end()

    @staticmethod
    def syncs(daemon):
        try:
            harness.fsync(daemon.disk)
            return True
        except OSError:
            return False


class Cut(kill_test.KillCase):
    """The connection is cut under writers, again and again: what an fsync has acknowledged is there, and the image is
    sound, leaks at worst."""

    def test_nothing_acknowledged_is_lost(self):
        print(f"QCOWFS_SEED={SEED} QCOWFS_CUT_ROUNDS={ROUNDS}", flush=True)
        source = random.Random(SEED)
        writes = syncs = cut_off = 0
        for number in range(ROUNDS):
            if number % 10 == 0:
                disk = kill_test.Disk(self, number // 10)
            try:
                writers = self.one_round(disk, source, number)
            except BaseException as error:
                raise AssertionError(f"round {number}, seed {SEED}, clusters of {disk.cluster_size}, the image: "
                                     f"{self.preserve(disk.image)}") from error
            writes += len(writers.recorder.writes)
            syncs += writers.recorder.syncs
            cut_off += writers.cut_off > 0
        print(f"{ROUNDS} rounds: {writes} writes, {syncs} syncs, {cut_off} rounds in which writers were cut off, "
              f"{self.leaks} clusters leaked at most")
        self.assertGreater(writes, 10 * ROUNDS)
        self.assertGreater(syncs, ROUNDS)
        self.assertGreater(cut_off, ROUNDS // 2)

    def one_round(self, disk, source, number):
        os.truncate(disk.image, EXPORT_SIZE)
        server = nbd_server.nbdkit(self, "file", disk.image, export="disk.qcow2")
        stalls = source.random() < 0.2
        options = self.options(source) + ["request_timeout=1"] * stalls
        daemon = foreground.Foreground(self, server.uri, self.point, *options)
        self.judge_data(disk, harness.read_at(daemon.disk, 0, disk.size))
        writers = kill_test.Writers(disk, daemon.disk, source, compacting=source.random() < 0.4)
        try:
            for _ in range(source.choice([0, 1, 3, 10, 30, 60, 100])):
                if not writers.acknowledged.acquire(timeout=0.2):
                    break
            time.sleep(source.choice([0, source.uniform(0, 0.002), source.uniform(0, 0.03)]))
            if stalls:
                server.stall()
            else:
                server.kill()
            harness.wait_for(lambda: writers.cut_off >= writers.writing, 20)
        finally:
            writers.end()
        done = run(QCOWFS, "umount", self.point, expect=None)
        status = daemon.process.wait(60 * harness.PATIENCE)
        daemon.must_have_no_report()
        self.assertEqual((done.returncode, status), (1, 1), done.stderr)
        server.kill()
        self.check_crashed(disk.image)
        if number % 3 == 0:
            self.judge_data(disk, self.read_by_qemu(disk))
        return writers


if __name__ == "__main__":
    harness.main()
