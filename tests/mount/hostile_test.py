#!/usr/bin/env -S python3 -B
"""Images from strangers: what is known to have hurt other programs. Nobody hangs, nobody takes more memory than the
README says, nothing outside the image is read, and what is refused or mounted read-only is not changed."""

import hashlib
import os
import socket
import struct
import threading
import time

import content
import damage
import harness
from damage import COPIED
from harness import KiB, MiB, QCOWFS, run

SECONDS_MAX = 5 * harness.PATIENCE
MEMORY_BESIDE_CACHE = 96 * MiB  # of a mount of any image, see the README
CLUSTER = 64 * KiB


def digest(path):
    """Of what there is in the file besides holes."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # no more
                break
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.update(b"%d %d" % (begin, at))
            while begin < at:
                part = os.pread(file.fileno(), min(at - begin, MiB), begin)
                found.update(part)
                begin += len(part)
    return found.digest()


class AllocationWatch:
    """How much a file takes of its host at most, while it lasts."""

    def __init__(self, path):
        self.path = path
        self.most = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def look(self):
        while True:
            self.most = max(self.most, os.stat(self.path).st_blocks * 512)
            if self.ended.wait(0.005):
                return


class Hostile(harness.MountCase):
    def store(self, name, image):
        return content.write_file(self.path(name), bytes(image.data))

    def sound(self, size=4 * MiB, *options):
        """An image with something in it, as bytes with their tables known."""
        image = self.create(size, *options, name=f"sound-{self.next_number()}.qcow2")
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, content.text(size // 4, 1))
        daemon.unmount()
        return self.load(image)

    def load(self, path):
        with open(path, "rb") as file:
            return damage.Image(file.read())

    def append(self, image, data):
        """Puts `data` behind the image, where a cluster begins. Its offset."""
        at = len(image.data) + CLUSTER - 1 & ~(CLUSTER - 1)
        image.data.extend(bytes(at - len(image.data)) + data)
        return at

    def meet(self, image, *options, reads=MiB):
        """Mounts it, writable where that is possible, reads and unmounts. Whether it was mounted; all within the
        bounds, and without a change."""
        before = digest(image)
        point = self.path(f"point-{self.next_number()}")
        os.mkdir(point)
        self.addCleanup(lambda: point in harness.mounts() and run("umount", "-l", point))
        started = time.monotonic()
        done = run(QCOWFS, *(["-o", ",".join(options)] if options else []), image, point, expect=None, timeout=120)
        self.assertLess(time.monotonic() - started, SECONDS_MAX, "too long to mount")
        if done.returncode != 0:
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        else:
            self.read(os.path.join(point, os.listdir(point)[0]), reads)
            if not harness.SANITIZED:
                peak = harness.peak_memory(harness.find_daemon(image, point))
                self.assertLess(peak, 144 * MiB + MEMORY_BESIDE_CACHE)
            self.assertLess(run(QCOWFS, "umount", point).seconds, SECONDS_MAX, "too long to unmount")
        self.assertEqual(digest(image), before, "the image was changed")
        return done.returncode == 0

    def read(self, disk, length):
        started = time.monotonic()
        with open(disk, "rb") as file:
            try:
                file.read(length)
            except OSError:
                pass  # EIO: what is damaged
        self.assertLess(time.monotonic() - started, SECONDS_MAX, "too long to read")

    def refuse_in_bounds(self, image):
        """Every command that opens an image refuses it in time and in memory."""
        before = digest(image)
        for command in (("info", image), ("check", image), ("map", image), ("snapshot", "list", image)):
            started = time.monotonic()
            done = run(QCOWFS, *command, expect=None, timeout=120)
            self.assertGreaterEqual(done.returncode, 0, done.stderr)
            self.assertLess(time.monotonic() - started, SECONDS_MAX, command)
        self.assertEqual(digest(image), before)
        self.meet(image)

    def test_overflowing_numbers_in_the_header(self):
        """CVE-2014-0143 to 0148, 0150: sums and products of what the header says."""
        top = (1 << 64) - 1
        rows = {
            "header-length": [(100, ">I", 0xffffffff)], "header-length-end": [(100, ">I", 0xfffffff8)],
            "backing-offset": [(8, ">Q", top), (16, ">I", 1023)],
            "backing-sum": [(8, ">Q", top - 511), (16, ">I", 1023)],
            "backing-length": [(8, ">Q", 512), (16, ">I", 0xffffffff)],
            "refcount-table": [(48, ">Q", top & ~0xffff), (56, ">I", 1)],
            "refcount-product": [(56, ">I", 0x10000000)], "refcount-wraps": [(56, ">I", 0xffff0001)],
            "l1-offset": [(40, ">Q", top & ~0xffff)], "l1-product": [(36, ">I", 0x20000001)],
            "snapshots": [(60, ">I", 0xffffffff), (64, ">Q", 0x10000)],
            "snapshot-offset": [(60, ">I", 1), (64, ">Q", top & ~0xffff)],
            "size": [(24, ">Q", top)], "size-and-l1": [(24, ">Q", 1 << 62), (36, ">I", 0x7fffffff)],
        }
        for name, changes in rows.items():
            with self.subTest(name=name):
                image = self.sound()
                for at, kind, value in changes:
                    image.put(kind, at, value)
                self.refuse_in_bounds(self.store(f"{name}.qcow2", image))

    def test_numbers_of_snapshots_that_overflow(self):
        source = self.create(4 * MiB)
        run(QCOWFS, "snapshot", "create", source, "one")
        with open(source, "rb") as file:
            data = file.read()
        for name, at, kind, value in [("l1-at", 0, ">Q", (1 << 64) - 65536), ("l1-entries", 8, ">I", 0xffffffff),
                                      ("id-length", 12, ">H", 0xffff), ("name-length", 14, ">H", 0xffff),
                                      ("extra-length", 36, ">I", 0xffffffff)]:
            with self.subTest(name=name):
                image = damage.Image(data)
                image.put(kind, image.snapshot_table + at, value)
                self.refuse_in_bounds(self.store(f"snapshot-{name}.qcow2", image))

    def test_tables_that_point_at_themselves(self):
        image = self.sound()
        l2, block = image.l2_tables[0], image.refcount_blocks()[0]
        rows = [("l1", image.l1, COPIED | image.l1), ("l2", l2, COPIED | l2), ("l2-to-l1", l2, COPIED | image.l1),
                ("l1-to-l2s-block", image.l1, COPIED | block),
                ("refcounts", image.refcount_table, image.refcount_table), ("block", image.refcount_table, block | 512)]
        for name, at, value in rows:
            with self.subTest(name=name):
                damaged = damage.Image(bytes(image.data))
                damaged.set_word(at, value)
                self.refuse_in_bounds(self.store(f"self-{name}.qcow2", damaged))

    def test_one_l2_table_for_every_l1_entry(self):
        """Four million entries of the largest L1 table there may be: to follow each would take hours."""
        image = self.sound()
        fragment = image.word(image.compressed_entries()[0])
        table = image.l2_tables[0]
        for i in range(image.l2_entries):
            image.set_word(table + 8 * i, fragment)
        entries = 4 << 20
        l1 = self.append(image, struct.pack(">Q", table) * entries)
        image.put(">Q", 24, entries * image.l2_entries * CLUSTER)
        image.put(">I", 36, entries)
        image.put(">Q", 40, l1)
        self.refuse_in_bounds(self.store("shared.qcow2", image))

    def test_one_fragment_for_every_cluster(self):
        """Sound, as far as the format goes: half a gibibyte out of some bytes. Read and overwritten all the same."""
        image = self.sound(512 * MiB, "--refcount-bits", "32")
        fragment = image.word(image.compressed_entries()[0])
        for i in range(image.l2_entries):
            image.set_word(image.l2_tables[0] + 8 * i, fragment)
        path = self.store("bomb.qcow2", image)
        run(QCOWFS, "check", "--repair", "all", path, timeout=120)
        self.assertTrue(self.meet(path, reads=64 * MiB))
        daemon = self.mount(path)
        twin = self.path("twin.raw")
        run("cp", daemon.disk, twin)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 3 * CLUSTER + 100, content.text(5 * MiB, 2))
        daemon.unmount()
        self.judge(path, twin)

    def test_a_gap_in_the_refcount_table(self):
        """A block for the last clusters that the table can count, and none before it."""
        image = self.sound()
        image.set_word(image.refcount_table + 8 * (CLUSTER // 8 - 1), image.refcount_blocks()[0])
        self.refuse_in_bounds(self.store("gap.qcow2", image))

    def test_the_largest_of_everything(self):
        """A sparse file of a tebibyte with the largest L1 and refcount tables, each entry naming a table of its own."""
        image = self.sound()
        path = self.store("largest.qcow2", image)
        entries = 4 << 20
        l1, blocks, tables = 1 << 30, 1 << 31, 1 << 38
        with open(path, "r+b") as file:
            file.truncate(1 << 40)
            file.seek(l1)
            file.write(b"".join(struct.pack(">Q", COPIED | tables + i * CLUSTER) for i in range(entries)))
            file.seek(blocks)
            file.write(b"".join(struct.pack(">Q", blocks + (16 << 20) + i * CLUSTER) for i in range(1 << 20)))
            for at, kind, value in ((24, ">Q", entries * (CLUSTER // 8) * CLUSTER), (36, ">I", entries), (40, ">Q", l1),
                                    (48, ">Q", blocks), (56, ">I", (8 << 20) // CLUSTER)):
                file.seek(at)
                file.write(struct.pack(kind, value))
        self.refuse_in_bounds(path)

    def sparse_tebibyte(self, name, *options):
        """An image of clusters of 512 bytes at the begin of a file with as many of them as may be looked at."""
        image = self.create(64 * MiB, "--cluster-size", 512, *options, name=name)
        with open(image, "r+b") as file:
            file.truncate((1 << 40) - 512)
        return image

    def test_refcount_blocks_without_end(self):
        """Two thousand million refcounts: of one block after the other in a hole, or of one block all over again."""
        entries = 1 << 19
        blocks = 1 << 30
        for name, place in (("holes", lambda i: blocks + 512 * i), ("same", lambda i: blocks)):
            with self.subTest(name=name):
                image = self.sparse_tebibyte(f"{name}.qcow2", "--refcount-bits", 1)
                with open(image, "r+b") as file:
                    file.seek(1 << 20)
                    file.write(b"".join(struct.pack(">Q", place(i)) for i in range(entries)))
                    file.seek(blocks)
                    file.write(b"\xff" * (512 if name == "same" else 0))
                    file.seek(48)
                    file.write(struct.pack(">QI", 1 << 20, entries * 8 // 512))
                self.refuse_in_bounds(image)

    def test_clusters_far_apart(self):
        """Each of them in a part of the file of its own, for which something is kept in memory."""
        image = self.sparse_tebibyte("apart.qcow2")
        tables = 2048
        with open(image, "r+b") as file:
            file.seek(40)
            (l1, ) = struct.unpack(">Q", file.read(8))
            at = 1 << 20
            file.seek(l1)
            file.write(b"".join(struct.pack(">Q", COPIED | at + 512 * i) for i in range(tables)))
            file.seek(at)
            clusters = (COPIED | (1 << 30) + i * (8 << 20) for i in range(tables * 64 - 200))
            file.write(b"".join(struct.pack(">Q", entry) for entry in clusters))
        self.refuse_in_bounds(image)
        if not harness.SANITIZED:
            self.assertLess(self.peak_of("check", image), MEMORY_BESIDE_CACHE)

    def behind_terabytes(self, cluster, move):
        """A sound image of 15 TiB all but a part of which is in its first megabytes: move(image, to) says where that
        is, how long, and puts its new place into what names it."""
        path = self.create(64 * MiB, "--cluster-size", cluster, name=f"behind-{self.next_number()}.qcow2")
        daemon = self.mount(path)
        harness.write_at(daemon.disk, 0, content.text(MiB, 1))
        harness.write_at(daemon.disk, 2 * MiB, content.noise(2 * MiB, 1))
        daemon.unmount()
        image = self.load(path)
        far = (15 << 40) - 8 * MiB
        at, length = move(image, far)
        with open(path, "r+b") as file:
            file.write(image.data)
            file.seek(far + at % 512)
            file.write(image.data[at:at + length])
            file.truncate(15 << 40)
        run(QCOWFS, "check", "--repair", "all", path)
        return path

    def use_in_bounds(self, path):
        """Mounts it writable, writes and compacts, all in time, in memory, and without taking the host's space."""
        twin = path + ".raw"
        started = time.monotonic()
        daemon = self.mount(path)
        self.assertLess(time.monotonic() - started, SECONDS_MAX, "too long to mount")
        run("cp", daemon.disk, twin)
        for disk in (daemon.disk, twin):
            harness.write_at(disk, 0, content.text(3 * MiB, 2))
            run("sync", disk)
        with AllocationWatch(path) as allocation:
            self.assertLess(run(QCOWFS, "compact", daemon.point).seconds, SECONDS_MAX, "too long to compact")
        self.assertLess(allocation.most, 256 * MiB)
        if not harness.SANITIZED:
            self.assertLess(harness.peak_memory(daemon.pid), 144 * MiB + MEMORY_BESIDE_CACHE)
        daemon.unmount()
        self.judge(path, twin)

    def test_a_fragment_behind_a_hole_of_terabytes(self):
        def move(image, far):
            entry = image.compressed_entries()[0]
            at, length = image.fragment(image.word(entry))
            image.set_word(entry, image.word(entry) - at + far + at % 512)
            return at, length

        for cluster in (8 * KiB, 64 * KiB):
            with self.subTest(cluster=cluster):
                path = self.behind_terabytes(cluster, move)
                self.refuse_in_bounds(path)
                self.use_in_bounds(path)
                self.assertLess(os.path.getsize(path), 64 * MiB, "the file's end was not lowered")

    def test_a_table_behind_a_hole_of_terabytes(self):
        def move(image, far):
            entry = image.l1_entries()[0]
            at = image.word(entry) & damage.OFFSET_MASK
            image.set_word(entry, COPIED | far)
            return at, image.cluster

        for cluster in (64 * KiB, 2 * MiB):
            with self.subTest(cluster=cluster):
                path = self.behind_terabytes(cluster, move)
                self.refuse_in_bounds(path)
                self.use_in_bounds(path)

    def peak_of(self, *command):
        """Bytes: the most memory that a command took."""
        done = run("/usr/bin/env", "python3", "-c", "import resource, subprocess, sys\n"
                   "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
                   "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)", QCOWFS, *command)
        return int(done.stdout) * KiB

    def test_snapshots_that_share_one_large_l1_table(self):
        """Of 32 MiB, and each of 300 snapshots says that it is its own."""
        source = self.create(4 * MiB)
        for number in range(300):
            run(QCOWFS, "snapshot", "create", source, f"s{number}")
        image = self.load(source)
        entries = 4 << 20
        l1 = self.append(image, bytes(8 * entries))
        at = image.snapshot_table
        for _ in range(300):
            image.put(">Q", at, l1)
            image.put(">I", at + 8, entries)
            (id_length, name_length) = struct.unpack_from(">HH", image.data, at + 12)
            (extra_length, ) = struct.unpack_from(">I", image.data, at + 36)
            at += 40 + extra_length + id_length + name_length + 7 & ~7
        path = self.store("snapshots.qcow2", image)
        for size in (len(image.data), 1 << 40):  # as it is, and as the begin of a hole
            os.truncate(path, size)
            self.assertIn("overlap, again and again", run(QCOWFS, "check", path, expect=2).stdout)
            self.refuse_in_bounds(path)

    def test_as_many_snapshots_as_there_may_be(self):
        """Found by fuzzing: their table lies in a hole, and every change reads it several times."""
        source = self.create(4 * MiB)
        run(QCOWFS, "snapshot", "create", source, "one")
        image = self.load(source)
        image.put(">I", 60, 65536)
        image.put(">Q", 64, 1 << 30)
        path = self.store("snapshots.qcow2", image)
        os.truncate(path, (1 << 30) + 4 * MiB)
        self.refuse_in_bounds(path)
        for command in ("create", "delete", "apply"):
            done = run(QCOWFS, "snapshot", command, path, "one", expect=1)
            self.assertLess(done.seconds, SECONDS_MAX, command)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_bitmaps_that_share_one_large_table(self):
        """Of 8 MiB, as data and in a hole, and each of sixty thousand bitmaps says that it is its own."""
        source = self.create(4 * MiB, "--cluster-size", 512)
        entries, bitmaps = 1 << 20, 60000
        in_use, dirty_tracking = 1, 1
        for name, table_is_hole in (("data", False), ("hole", True)):
            with self.subTest(name=name):
                image = self.load(source)
                self.assertEqual(image.word(image.header_length), 0, "where the extension goes")
                table = 64 * MiB if table_is_hole else self.append(image, bytes(8 * entries))
                entry = struct.pack(">QIIBBHI", table, entries, in_use, dirty_tracking, 16, 5, 0)
                names = ((b"%05d" % number).ljust(8, b"\0") for number in range(bitmaps))
                directory = self.append(image, b"".join(entry + name for name in names))
                image.set_word(88, 1)  # bitmaps are kept up to date
                extension = struct.pack(">IIIIQQQ", damage.BITMAPS_EXTENSION, 24, bitmaps, 0, 32 * bitmaps,
                                        directory, 0)
                image.data[image.header_length:image.header_length + len(extension)] = extension
                path = self.store(f"bitmaps-{name}.qcow2", image)
                os.truncate(path, 128 * MiB)
                self.assertIn("the tables of its bitmaps overlap", run(QCOWFS, "check", path, expect=1).stderr)
                self.refuse_in_bounds(path)

    def test_what_a_guest_writes_stays_its_disk(self):
        """CVE-2008-2004, CVE-2013-1922: a raw disk that begins like an image with a backing file."""
        header = bytearray(self.sound().data[:CLUSTER])
        header[512:523] = b"/etc/shadow"
        struct.pack_into(">QI", header, 8, 512, 11)
        base = content.write_file(self.path("base.raw"), bytes(header) + content.text(MiB - len(header), 1))
        image = self.path("over.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", image)
        for _ in range(2):
            daemon = self.mount(image)
            self.assert_same_bytes(daemon.disk, base)
            harness.write_at(daemon.disk, 0, bytes(header))
            daemon.unmount()
        self.judge(image, base)

    def test_files_of_this_machine(self):
        """CVE-2015-5163, 2024-4467, 2024-32498: what an image may not lead to."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.path("socket"))
            os.mkfifo(self.path("pipe"))
            os.symlink("/etc/passwd", self.path("link"))
            for number, name in enumerate(("/etc/shadow", "/etc/passwd", "../../../../etc/passwd", "link", "socket",
                                           "pipe", "/dev/zero", "/dev/tty", "/proc/self/environ", "nbd://127.0.0.1/x",
                                           "json:{}", 'json:{"driver":"file","filename":"/etc/passwd"}', "fat:/etc",
                                           "file:/etc/passwd", "http://127.0.0.1/x")):
                with self.subTest(name=name):
                    over = self.path(f"over-{number}.qcow2")
                    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", name, over, MiB)
                    self.assertFalse(self.meet(over))
                    beside = self.with_data_file(name, f"beside-{number}.qcow2")
                    self.assertFalse(self.meet(beside))

    def with_data_file(self, name, image):
        """An image that names this as its external data file."""
        made = self.create_by_qemu(MiB, f"data_file={self.path('data.raw')}", image)
        os.unlink(self.path("data.raw"))
        with open(made, "r+b") as file:
            header = bytearray(file.read(4096))
            at = header.index(b"DATA")
            (length, ) = struct.unpack_from(">I", header, at + 4)
            encoded = name.encode()
            struct.pack_into(">I", header, at + 4, min(len(encoded), length + 7 & ~7))
            header[at + 8:at + 8 + (length + 7 & ~7)] = encoded[:length + 7 & ~7].ljust(length + 7 & ~7, b"\0")
            file.seek(0)
            file.write(header)
        return made

    def test_a_name_that_changes_while_it_is_looked_at(self):
        """A file in one moment, a symbolic link to somebody's secret in the next."""
        home, elsewhere = self.path("home"), self.path("elsewhere")
        os.mkdir(home)
        os.mkdir(elsewhere)
        harmless = bytes(MiB)
        secret = content.write_file(os.path.join(elsewhere, "secret"), b"secret" * 1000)
        base = os.path.join(home, "base.raw")
        content.write_file(base, harmless)
        image = os.path.join(home, "over.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", image, MiB)
        ended = threading.Event()

        def swap():
            while not ended.is_set():
                for make in (lambda path: os.symlink(secret, path), lambda path: content.write_file(path, harmless)):
                    make(base + ".new")
                    os.rename(base + ".new", base)

        swapping = threading.Thread(target=swap)
        swapping.start()
        mounted = 0
        try:
            for number in range(40):
                point = self.path(f"point-{number}")
                os.mkdir(point)
                if run(QCOWFS, "-r", image, point, expect=None).returncode == 0:
                    mounted += 1
                    with open(os.path.join(point, "over.raw"), "rb") as file:
                        shown = file.read()
                    run(QCOWFS, "umount", point)
                    self.assertEqual(shown, harmless)
        finally:
            ended.set()
            swapping.join()
        print(f"mounted {mounted} times of 40", end=" ", flush=True)


if __name__ == "__main__":
    harness.main()
