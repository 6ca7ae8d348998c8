"""What the benchmark needs of the machine: commands, mounts, caches, and an end that leaves nothing behind."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

KiB, MiB, GiB, TiB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"  # mkfs and losetup, not only for root
os.environ["LC_ALL"] = "C.UTF-8"

PACKAGES = {"qemu-img": "qemu-utils", "qemu-storage-daemon": "qemu-system-common", "fio": "fio", "strace": "strace",
            "mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "fusermount3": "fuse3", "losetup": "mount"}


class Stop(Exception):
    """Why the run ends here: one line for the person at the keyboard."""


def require_programs(names):
    missing = sorted({name for name in names if shutil.which(name) is None})
    if missing:
        packages = sorted({PACKAGES[name] for name in missing})
        raise Stop(f"{', '.join(missing)} not found: install the Debian package {' '.join(packages)}")


def run(*command, expect=0, **options):
    """Runs a command to its end. `expect` is the exit status it must have; None takes any."""
    command = [str(part) for part in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace", check=False, start_new_session=Interrupts.holds > 0, **options)
    if expect is not None and done.returncode != expect:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Stop(f"{' '.join(command)}: exit status {done.returncode}: {said}")
    return done


def timed(*command):
    """The seconds that a command takes."""
    started = time.monotonic()
    run(*command)
    return time.monotonic() - started


class Interrupts:
    """Ctrl-C and SIGTERM end the run by an exception, once, and not in the middle of what `held_off` guards: the
    terminal's signal does not reach the commands there either."""

    holds = 0
    waiting = False
    raised = False

    @classmethod
    def install(cls):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, cls.arrive)

    @classmethod
    def arrive(cls, _number, _frame):
        if cls.holds:
            cls.waiting = True
        elif not cls.raised:  # a second one must not cut the cleaning short
            cls.raised = True
            raise KeyboardInterrupt

    @classmethod
    @contextlib.contextmanager
    def held_off(cls):
        cls.holds += 1
        try:
            yield
        finally:
            cls.holds -= 1
            if cls.waiting and not cls.holds and not cls.raised:
                cls.raised = True
                raise KeyboardInterrupt


def is_mounted(path):
    return path in mounts()


def mounts():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split()[4] for line in file]
    return {re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field) for field in fields}


def unmount_lazily(path):
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    run(*command, path, expect=None)


def peak_memory(pid):
    """Bytes: the high-water mark of a running process."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * KiB


def warm(path):
    """Into the page cache: what is measured next is not the reading of the source."""
    with open(path, "rb", buffering=0) as file:
        while file.read(4 * MiB):
            pass


def forget_caches(*paths):
    """Out of the page cache: all of it where that is allowed, otherwise these files. Returns whether it was all."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
        return True
    except OSError:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        return False


@contextlib.contextmanager
def scratch_folder(parent):
    """A folder of the run's own. Nothing is removed from under a mount that would not go."""
    folder = os.path.realpath(tempfile.mkdtemp(prefix="qcowfs-bench-", dir=parent))
    try:
        yield folder
    finally:
        with Interrupts.held_off():
            left = [point for point in mounts() if point.startswith(folder + "/")]
            if left:
                raise Stop(f"still mounted, and left alone: {' '.join(sorted(left))}")
            shutil.rmtree(folder)


def loop_obstacle(folder):
    """Why no loop device can be had here, or nothing."""
    if os.geteuid() != 0:
        return "loop devices need root"
    if shutil.which("losetup") is None:
        return "losetup not found: install the Debian package mount"
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.truncate(MiB)
        made = run("losetup", "--find", "--show", file.name, expect=None)
        if made.returncode != 0:
            return f"no loop device: {made.stderr.strip()}"
        run("losetup", "--detach", made.stdout.strip())
    return None
