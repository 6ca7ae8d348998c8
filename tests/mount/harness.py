"""What the tests of real mounts stand on: images, mounts that clean up after themselves, raw twins, and QEMU
as the judge.

QCOWFS            the program; build/release/qcowfs where it is not set
QCOWFS_SANITIZED  set: a sanitizer build. It runs in the foreground with its log captured, a report in the log
                  fails the test, work is scaled down, and nothing is asserted about speed or memory
QCOWFS_DOOR       images that qcowfs makes are put on block devices ("device"), or on NBD servers ("nbd"); "file" where
                  it is not set
QCOWFS_TEST_DIR   where images are made; the system's temporary folder where it is not set
CI                "true": what a test needs and the machine lacks is a failure; elsewhere a loud skip, exit 77
"""

import ctypes
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse

import content
import nbd_server

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
QCOWFS = os.path.abspath(os.environ.get("QCOWFS") or os.path.join(ROOT, "build/release/qcowfs"))
SANITIZED = bool(os.environ.get("QCOWFS_SANITIZED"))
IN_CI = os.environ.get("CI") == "true"
DOOR = os.environ.get("QCOWFS_DOOR") or "file"
PATIENCE = 5 if SANITIZED else 1  # a sanitizer build takes this many times as long

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30
DEVICE_SIZE = 4 * GiB  # of which an image takes what it needs

SANITIZER_REPORT = re.compile(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error:")

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_ZERO_RANGE = 8, 16
libc = ctypes.CDLL(None, use_errno=True)

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")  # in front of a command; for root

os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"  # mkfs, losetup and debugfs, not only for root


def scaled(full, sanitized):
    """A size or count: the first in an ordinary build, the second in a sanitizer build."""
    return sanitized if SANITIZED else full


def run(*command, timeout=120, expect=0, **options):
    """Runs a command to its end. `expect` is the exit status it must have; None takes any."""
    command = [str(part) for part in command]
    started = time.monotonic()
    options.setdefault("stdin", subprocess.DEVNULL)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              errors="replace", timeout=timeout * PATIENCE, **options)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{' '.join(command)}: not done after {timeout * PATIENCE} s") from error
    done.seconds = time.monotonic() - started
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}, not {expect}\n"
                             f"stdout: {done.stdout}\nstderr: {done.stderr}")
    return done


def mounts():
    """{mount point: file system type} of this mount namespace."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), fields[4])
            found[point] = fields[fields.index("-") + 1]
    return found


def fuse_obstacle():
    """Why nothing can be mounted here, or nothing."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return None


def loop_obstacle():
    """Why no loop device can be had here, or nothing."""
    if os.geteuid() != 0:
        return "loop devices need root"
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(MiB)
        made = run("losetup", "--find", "--show", file.name, expect=None)
        if made.returncode != 0:
            return f"no loop device: {made.stderr.strip()}"
        run("losetup", "--detach", made.stdout.strip())
    return None


def peak_memory(pid):
    """Bytes: the process's high-water mark."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * KiB


class Daemon:
    """One mount. `disk` is the path of the raw disk, whatever the mount point is."""

    def __init__(self, case, image, options, over_file, extra_arguments=()):
        self.case = case
        self.image = image
        self.process = None
        self.log = None
        if over_file:
            self.point = self.disk = os.path.join(case.folder, f"point-{case.next_number()}")
            with open(self.disk, "wb"):
                pass
        else:
            self.point = os.path.join(case.folder, f"point-{case.next_number()}")
            os.mkdir(self.point)
            self.disk = os.path.join(self.point, shown_name(image))
        arguments = [*extra_arguments, *(["-o", ",".join(options)] if options else []), image, self.point]
        case.addCleanup(self.clean_up)
        if SANITIZED:
            self.start_in_foreground(arguments)
        else:
            run(QCOWFS, *arguments, timeout=60)
        if self.point not in mounts():
            raise AssertionError(f"qcowfs returned success, but {self.point} is not mounted")
        self.pid = self.process.pid if self.process else find_daemon(image, self.point)

    def start_in_foreground(self, arguments):
        self.log = os.path.join(self.case.folder, f"log-{self.case.next_number()}")
        told, tells = os.pipe()
        command = [QCOWFS, *arguments, "-f", "-o", f"ready_fd={tells}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[tells])
        os.close(tells)
        # Mounted is not yet live: who unmounts in between can ask no daemon whether everything is stored.
        with open(told, encoding="utf-8") as stream:
            heard, _, _ = select.select([stream], [], [], 60 * PATIENCE)
            line = stream.readline() if heard else ""
        if line != "ready\n":
            raise AssertionError(f"qcowfs is not live: {line!r}: {read_text(self.log)}")

    def unmount(self, timeout=120):
        """`qcowfs umount`: when it returns, the image is released and everything was durable."""
        done = run(QCOWFS, "umount", self.point, timeout=timeout)
        self.must_be_over()
        return done

    def kill(self):
        """SIGKILL. When it returns the dead mount is taken away, and the image is free."""
        os.kill(self.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(60 * PATIENCE)
        wait_for(lambda: not is_running(self.pid), 30)
        run(QCOWFS, "umount", self.point)

    def must_be_over(self):
        """The mount is gone, the daemon has ended, well, and without a sanitizer's report."""
        if self.point in mounts():
            raise AssertionError(f"{self.point} is still mounted")
        if self.process is not None:
            self.must_have_ended_well()
        elif not wait_for(lambda: not is_running(self.pid), 30, must=False):
            raise AssertionError("the daemon still runs after the unmount")

    def must_have_ended_well(self):
        try:
            status = self.process.wait(60 * PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise AssertionError("the daemon still runs after the unmount") from error
        log = read_text(self.log)
        if status != 0 or SANITIZER_REPORT.search(log):
            raise AssertionError(f"the daemon ended with {status}; its log:\n{log[-20000:]}")

    def peak_memory(self):
        """Bytes: the daemon's high-water mark."""
        return peak_memory(self.pid)

    def system_calls_to_read(self):
        """How many it has made: one for each request of the kernel, and some."""
        with open(f"/proc/{self.pid}/io", encoding="ascii") as file:
            return int(re.search(r"syscr: (\d+)", file.read()).group(1))

    def clean_up(self):
        """Leaves no mount and no process, whatever state the test left them in."""
        if self.point in mounts():
            try:
                run(QCOWFS, "umount", self.point, timeout=30, expect=None)
            except AssertionError as error:
                print(error, file=sys.stderr)
        pid = self.process.pid if self.process else find_daemon(self.image, self.point)
        if pid is not None and is_running(pid):
            if self.point in mounts():
                os.kill(pid, signal.SIGKILL)  # whoever hangs on the mount hangs no longer
            elif self.process is not None:
                self.process.terminate()
        if self.point in mounts():
            unmount = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
            run(*unmount, self.point, expect=None)
        if self.process is not None:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def shown_name(image):
    """Of the disk of an image at a path or URI."""
    if "://" in image:
        image = urllib.parse.unquote(image.partition("?")[0])
    return (os.path.basename(image) or "disk").removesuffix(".qcow2") + ".raw"


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def find_daemon(image, point=None):
    """The process that serves `image` (at `point`), by its arguments, or nothing."""
    wanted = {os.fsencode(path) for path in (image, point) if path}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    arguments = file.read().split(b"\0")
                program = os.path.realpath(f"/proc/{entry}/exe")
                is_helper = read_text(f"/proc/{entry}/comm").strip() == "qcowfs-helper"
                if wanted <= set(arguments) and program == os.path.realpath(QCOWFS) and not is_helper:
                    return int(entry)
            except OSError:
                pass
    return None


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition, seconds, must=True):
    """Polls until `condition()`; with `must`, it has to come true in time."""
    deadline = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    if must:
        raise AssertionError(f"not there after {seconds * PATIENCE} s")
    return False


class MountCase(unittest.TestCase):
    """A test with a folder of its own."""

    maxDiff = None
    OPTIONS = ()  # of every mount

    def setUp(self):
        self.assertTrue(os.path.exists(QCOWFS), f"{QCOWFS} has not been built")
        obstacle = fuse_obstacle()
        if obstacle:
            self.lacks(obstacle)
        self.numbers = 0
        self.image_files = {}
        self.image_servers = {}
        self.folder = tempfile.mkdtemp(prefix="qcowfs-", dir=os.environ.get("QCOWFS_TEST_DIR"))
        self.addCleanup(self.remove_folder)

    def remove_folder(self):
        left = [point for point in mounts() if point.startswith(self.folder + "/")]
        if left:
            raise AssertionError(f"left mounted: {left}")
        shutil.rmtree(self.folder)

    def lacks(self, obstacle):
        """The machine lacks something: a failure where nothing may be skipped."""
        if IN_CI:
            self.fail(f"cannot run here, and nothing may be skipped where CI=true: {obstacle}")
        self.skipTest(obstacle)

    def next_number(self):
        self.numbers += 1
        return self.numbers

    def path(self, name):
        return os.path.join(self.folder, name)

    def create(self, size, *options, name="disk.qcow2"):
        """An image made by qcowfs: what is to be mounted."""
        image = self.path(name)
        run(QCOWFS, "create", *options, image, size)
        place = image
        if DOOR == "nbd":
            server = nbd_server.export_file(self, image, DEVICE_SIZE)
            place = server.uri
            self.image_servers[place] = server
        elif DOOR == "device":
            place = self.on_device(image, DEVICE_SIZE)
        self.image_files[place] = image
        return place

    def wait_until_let_go(self, image):
        """What a killed daemon had sent has been done, or never will be."""
        if image in self.image_servers:
            wait_for(self.image_servers[image].has_let_go, 30)

    def file_of(self, image):
        """The file that holds what create() has made, whatever door leads to it."""
        return self.image_files[image]

    def on_device(self, image, size):
        """A block device of `size` bytes that begins with the image in the file."""
        os.truncate(image, size)
        return self.loop_device(image)

    def create_by_qemu(self, size, options="", name="disk.qcow2", arguments=()):
        image = self.path(name)
        options = ["-o", options] if options else []
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, *arguments, image, size)
        return image

    def twin(self, size, name="twin.raw"):
        """An empty raw disk beside the image."""
        path = self.path(name)
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def mount(self, image, *options, over_file=False, arguments=()):
        return Daemon(self, image, (*self.OPTIONS, *options), over_file, arguments)

    def start(self, point, *arguments):
        """Starts qcowfs in the foreground and waits until `point` is a live mount. The process, with the path of its
        log as `log`."""
        log = self.path(f"log-{self.next_number()}")
        with open(log, "ab") as file:
            process = subprocess.Popen([QCOWFS, *arguments], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        process.log = log
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for(lambda: point in mounts() or process.poll() is not None, 60)
        self.assertIsNone(process.poll(), read_text(log))
        return process

    def end(self, process):
        """The exit status of what start() started, which ends by itself, and without a sanitizer's report."""
        status = process.wait(60 * PATIENCE)
        log = read_text(process.log)
        self.assertIsNone(SANITIZER_REPORT.search(log), log[-20000:])
        return status

    def check(self, image):
        """qemu-img check's verdict: no errors and no leaks. Its figures."""
        done = run("qemu-img", "check", "-f", "qcow2", "--output=json", image, timeout=300)
        figures = json.loads(done.stdout)
        for fault in ("leaks", "corruptions", "check-errors"):
            self.assertEqual(figures.get(fault, 0), 0, done.stdout)
        return figures

    def judge(self, image, twin):
        """A stranger's verdict: no errors, no leaks, and every byte as in the raw twin."""
        figures = self.check(image)
        done = run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, twin, timeout=300, expect=None)
        self.assertEqual((done.returncode, done.stdout.strip()), (0, "Images are identical."), done.stderr)
        return figures

    def info(self, image):
        return json.loads(run("qemu-img", "info", "-f", "qcow2", "--output=json", image).stdout)

    def qemu_writes(self, image, twin, seed, count, sectors_max):
        """Bytes and zeros by QEMU, whole sectors of the image and its raw twin alike."""
        source = random.Random(f"qemu {seed}")
        size = os.path.getsize(twin)
        commands = []
        for _ in range(count):
            length = 512 * source.randint(1, sectors_max)
            offset = 512 * source.randrange((size - length) // 512)
            how = "write -z" if source.random() < 0.3 else f"write -P {source.randrange(1, 256)}"
            commands += ["-c", f"{how} {offset} {length}"]
        for disk, disk_format in ((image, "qcow2"), (twin, "raw")):
            run("qemu-io", "-f", disk_format, *commands, disk)

    def assert_same_bytes(self, left, right):
        """Two files, read past the page cache's copy where that is possible."""
        for path in (left, right):
            forget_cached(path)
        done = run("cmp", left, right, timeout=300, expect=None)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def loop_device(self, path, *options):
        """A loop device over `path`, detached by detach() or at the end of the test."""
        obstacle = loop_obstacle()
        if obstacle:
            self.lacks(obstacle)
        device = run("losetup", "--find", "--show", *options, path).stdout.strip()
        self.addCleanup(lambda: is_loop_over(device, path) and self.detach(device))
        return device

    def detach(self, device):
        run("losetup", "--detach", device)
        wait_for(lambda: run("losetup", device, expect=None).returncode != 0, 20)

    def loop_mount(self, device, *options):
        """Mounts the file system on a loop device in a new folder."""
        return self.mounted("mount", *options, device)

    def mounted(self, *command):
        """A new folder, on which `command` with it as the last word mounts a file system."""
        folder = self.path(f"fs-{self.next_number()}")
        os.mkdir(folder)
        run(*command, folder)
        self.addCleanup(lambda: folder in mounts() and run("umount", folder))
        return folder

    def refused(self, *command, names=(), says=None, **options):
        """Runs what must fail: exit status non-zero, one line on stderr with `names` that matches `says`."""
        done = run(*command, expect=None, timeout=30, **options)
        with self.subTest(command=" ".join(str(part) for part in command)):
            self.assertNotEqual(done.returncode, 0)
            self.assertGreater(done.returncode, 0, "killed by a signal")
            lines = done.stderr.splitlines()
            self.assertEqual(len(lines), 1, f"not one line: {done.stderr!r}")
            for name in names:
                self.assertIn(name, lines[0])
            if says is not None:
                self.assertRegex(lines[0], re.compile(says, re.IGNORECASE))
        return done


def is_loop_over(device, path):
    done = run("losetup", "--noheadings", "--output", "BACK-FILE", device, expect=None)
    return done.returncode == 0 and done.stdout.strip() == path


def forget_cached(path):
    """Drops the kernel's cached pages of a file, so that the next read asks the file system."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass  # what cannot be flushed is compared as it is
    finally:
        os.close(fd)


def write_at(path, offset, data, flags=0):
    fd = os.open(path, os.O_WRONLY | flags)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            offset += written
            view = view[written:]
    finally:
        os.close(fd)


def read_at(path, offset, length):
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        pieces = []
        while length > 0:
            piece = file.read(length)
            if not piece:
                break
            pieces.append(piece)
            length -= len(piece)
    return b"".join(pieces)


def fallocate(path, mode, offset, length):
    fd = os.open(path, os.O_RDWR)
    try:
        if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
    finally:
        os.close(fd)


def punch(path, offset, length):
    fallocate(path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)


def zero_range(path, offset, length, keep_size=True):
    fallocate(path, FALLOC_FL_ZERO_RANGE | (FALLOC_FL_KEEP_SIZE if keep_size else 0), offset, length)


def change_at_random(source, paths, size):
    """Writes, gives up or zeroes some sectors of all `paths` alike; each has `size` bytes."""
    length = 512 * source.randint(1, 1200)
    offset = 512 * source.randrange((size - length) // 512)
    what = source.random()
    for path in paths:
        if what < 0.6:
            write_at(path, offset, content.mixed(length, offset + int(what * 1000)))
        elif what < 0.8:
            punch(path, offset, length)
        else:
            zero_range(path, offset, length)


def fsync(path):
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def main():
    """Runs the tests of the calling file. Exit status 77 where any was skipped and none failed."""
    program = unittest.main(exit=False, verbosity=2)
    for test, reason in program.result.skipped:
        print(f"SKIPPED: {test.id()}: {reason}", file=sys.stderr)
    if not program.result.wasSuccessful() or program.result.testsRun == 0:
        sys.exit(1)
    sys.exit(77 if program.result.skipped else 0)
