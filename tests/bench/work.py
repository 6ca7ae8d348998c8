"""The work that a disk is given: dd and fio, as anyone would run them."""

import dataclasses
import os

import machine
from contenders import parse_json
from machine import MiB, Stop, run, timed


@dataclasses.dataclass(frozen=True)
class Writing:
    """A way to write a whole disk with dd."""

    block: str = "1M"
    direct: bool = True

    def __str__(self):
        return f"bs={self.block} {'direct' if self.direct else 'buffered'}"

    def speed(self, source, disk):
        """MB/s, the final fsync counted."""
        machine.warm(source)
        run("sync", "-f", os.path.dirname(source))
        flags = ["oflag=direct"] if self.direct else []
        seconds = timed("dd", f"if={source}", f"of={disk}", f"bs={self.block}", *flags, "conv=notrunc,fsync")
        return os.path.getsize(source) / seconds / 1e6


DIRECT = Writing()
BUFFERED = Writing(direct=False)


def reading_speed(disk, size, *flags):
    """MB/s of one sequential reading."""
    return size / timed("dd", f"if={disk}", "of=/dev/null", "bs=1M", *flags) / 1e6


def fio(disk, *options):
    """fio's own account of one job or group."""
    done = run("fio", "--name=bench", f"--filename={disk}", "--thread", "--ioengine=psync", "--bs=4k", "--direct=1",
               "--group_reporting", "--fallocate=none", "--output-format=json", *options, cwd=os.path.dirname(disk))
    jobs = parse_json(done.stdout)["jobs"]
    if any(job["error"] for job in jobs):
        raise Stop(f"fio {' '.join(options)} on {disk}: error {jobs[0]['error']}")
    return jobs[0]


def random_reads(disk, seconds, jobs, *options):
    """Reads of 4 KiB a second."""
    size = os.path.getsize(disk)
    return fio(disk, "--rw=randread", f"--size={size}", f"--numjobs={jobs}", "--time_based", f"--runtime={seconds}",
               *options)["read"]["iops"]


def random_writes(disk, count, *options):
    """Writes of 4 KiB a second, half compressible as data are. `options` say which fsyncs are counted."""
    size = os.path.getsize(disk)
    done = fio(disk, "--rw=randwrite", f"--size={size}", f"--io_size={count * 4096}",
               "--buffer_compress_percentage=50", *options)["write"]
    if done["total_ios"] != count:
        raise Stop(f"fio made {done['total_ios']} writes on {disk}, not {count}")
    return done["iops"]


def disk_speed(folder, source):
    """(writing, reading): MB/s of the disk below, past the page cache in pieces of 1 MiB."""
    path = os.path.join(folder, "plain.raw")
    size = os.path.getsize(source)
    try:
        machine.warm(source)
        writing = size / timed("dd", f"if={source}", f"of={path}", "bs=1M", "oflag=direct", "conv=fsync") / 1e6
        machine.forget_caches(path)
        return writing, reading_speed(path, size // MiB * MiB, "iflag=direct")
    finally:
        os.unlink(path)
