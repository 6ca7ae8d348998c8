"""Who serves the disk: qcowfs, QEMU's storage daemon, and a file system that forgets what is written to it."""

import itertools
import json
import os
import re
import signal
import subprocess
import time

import machine
from machine import Interrupts, Stop, run

numbers = itertools.count(1)


class Server:
    """One mount by one process. `disk` is the file that is read and written."""

    name = ""
    SECONDS_TO_START = 60
    SECONDS_TO_END = 600  # storing everything is part of it

    def __init__(self, folder, prefix=()):
        number = next(numbers)
        self.prefix = list(prefix)
        self.point = self.disk = os.path.join(folder, f"disk-{number}")
        self.log = os.path.join(folder, f"log-{number}")
        self.process = None
        self.peak_memory = 0  # bytes, known once it has ended
        self.seconds_to_live = 0.0

    def command(self):
        raise NotImplementedError

    def make_point(self):
        with open(self.point, "wb"):
            pass

    def remove_point(self):
        os.unlink(self.point)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.clean_up()
            raise
        return self

    def start(self):
        with Interrupts.held_off():
            self.make_point()
            started = time.monotonic()
            with open(self.log, "wb") as log:  # a session of its own: a Ctrl-C is for us to pass on
                self.process = subprocess.Popen(self.prefix + self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=log, start_new_session=True)
        while not machine.is_mounted(self.point):
            if self.process.poll() is not None:
                raise Stop(f"{self.name} does not start: {self.last_words()}")
            if time.monotonic() > started + self.SECONDS_TO_START:
                raise Stop(f"{self.name} does not start: nothing mounted after {self.SECONDS_TO_START} s")
            time.sleep(0.001)
        os.stat(self.disk)  # answered by a live mount only
        self.seconds_to_live = time.monotonic() - started

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.peak_memory = machine.peak_memory(self.process.pid)
                self.ask_to_end()
                status = self.process.wait(self.SECONDS_TO_END)
                if status != 0:
                    raise Stop(f"{self.name} ended with {status}: {self.last_words()}")
        except subprocess.TimeoutExpired as error:
            raise Stop(f"{self.name} still runs {self.SECONDS_TO_END} s after it was asked to end") from error
        finally:
            self.clean_up()

    def ask_to_end(self):
        self.process.send_signal(signal.SIGTERM)

    def clean_up(self):
        """No process and no mount, whatever went before."""
        with Interrupts.held_off():
            if self.process is not None and self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(30)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            if machine.is_mounted(self.point):
                machine.unmount_lazily(self.point)
            if os.path.lexists(self.point):
                self.remove_point()

    def last_words(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            lines = log.read().strip().splitlines()
        return lines[-1] if lines else "without a word"


class Qcowfs(Server):
    name = "qcowfs"

    def __init__(self, program, folder, image, *options, prefix=()):
        super().__init__(folder, prefix)
        self.program = program
        self.image = image
        self.options = options
        self.disk = os.path.join(self.point, os.path.basename(image).removesuffix(".qcow2") + ".raw")

    def command(self):
        options = ["-o", ",".join(self.options)] if self.options else []
        return [self.program, "-f", *options, self.image, self.point]

    def make_point(self):
        os.mkdir(self.point)

    def remove_point(self):
        os.rmdir(self.point)

    def ask_to_end(self):
        run(self.program, "umount", self.point)


class StorageDaemon(Server):
    """QEMU's, past the host's page cache. It writes compressed clusters only through its compress filter."""

    name = "qemu-storage-daemon"

    def __init__(self, folder, image, compress=False, writable=True, prefix=()):
        super().__init__(folder, prefix)
        self.image = image
        self.compress = compress
        self.writable = writable

    def command(self):
        read_only = "off" if self.writable else "on"
        top = "c" if self.compress else "q"
        nodes = ["--blockdev", f"driver=file,filename={self.image},node-name=f,cache.direct=on,read-only={read_only}",
                 "--blockdev", f"driver=qcow2,file=f,node-name=q,read-only={read_only}"]
        if self.compress:
            nodes += ["--blockdev", "driver=compress,file=q,node-name=c"]
        writable = "on" if self.writable else "off"
        export = f"type=fuse,id=e,node-name={top},mountpoint={self.point},writable={writable}"
        return ["qemu-storage-daemon", *nodes, "--export", export]


class DiscardFs(Server):
    name = "discard_fs"

    def __init__(self, program, folder, size):
        super().__init__(folder)
        self.program = program
        self.size = size

    def command(self):
        return [self.program, str(self.size), self.point]


def create(program, image, size, compression="zlib"):
    """An empty image made by qcowfs."""
    if os.path.exists(image):
        os.unlink(image)
    run(program, "create", "--compression", compression, image, size)


def create_by_qemu(image, size, compression="zlib"):
    if os.path.exists(image):
        os.unlink(image)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"compression_type={compression}", image, size)


def judge(image, source=None):
    """A stranger's verdict: no error, no leak, and every byte as in `source`. Without it no figure counts."""
    done = run("qemu-img", "check", "-f", "qcow2", "--output=json", image, expect=None)
    if done.returncode != 0:
        found = re.findall(r'"(leaks|corruptions|check-errors)": (\d+)', done.stdout)
        told = ", ".join(f"{count} {name}" for name, count in found if count != "0") or done.stderr.strip()
        raise Stop(f"{os.path.basename(image)}: qemu-img check ends with {done.returncode}: {told}")
    if source is not None:
        done = run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, source, expect=None)
        if done.returncode != 0:
            said = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
            raise Stop(f"{os.path.basename(image)} does not hold what was written: qemu-img compare: {said}")


def versions(program):
    qemu = run("qemu-storage-daemon", "--version").stdout.split()[2]
    return run(program, "--version").stdout.splitlines()[0], f"qemu-storage-daemon {qemu}"


def rewriting_fails(folder):
    """What QEMU says to a second write to the same cluster through its compress filter; nothing where it does it."""
    image = os.path.join(folder, "rewritten.qcow2")
    create_by_qemu(image, machine.MiB)
    with StorageDaemon(folder, image, compress=True) as server:
        descriptor = os.open(server.disk, os.O_RDWR)
        try:
            os.pwrite(descriptor, b"a" * 4096, 0)
            os.pwrite(descriptor, b"b" * 4096, 4096)
            os.fsync(descriptor)
        except OSError as error:
            return error.strerror
        finally:
            os.close(descriptor)
            os.unlink(image)
    return None


def parse_json(text):
    """Of a program that may talk before it."""
    return json.loads(text[text.index("{"):])
