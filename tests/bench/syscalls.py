"""What a server asks of the disk: its barriers, and the bytes that it writes to the metadata of the image."""

import os
import re
import struct
import time

from machine import Stop

WRITES = "pwrite64,pwritev,pwritev2"
BARRIERS = "fdatasync,fsync"

CALL = re.compile(r"^(\d+) +(?:(pwrite64|pwritev|pwritev2)\(|<\.\.\. (pwrite64|pwritev|pwritev2) resumed>)(.*)$")
BARRIER = re.compile(rf"^\d+ +({BARRIERS.replace(',', '|')})\(")


def prefix(path):
    """Goes before a command. The tracer is no parent of it, so that signals and waits reach the command itself."""
    return ["strace", "-D", "-f", "-q", "-s", "0", "-e", f"trace={WRITES},{BARRIERS}", "-e", "signal=none", "-o", path]


def lines_of(path):
    """Complete once the tracer is gone: the last thing it notes is the end of the process."""
    for _ in range(1000):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        if lines and re.search(r"\+\+\+ exited with|\+\+\+ killed by", lines[-1]):
            return lines
        time.sleep(0.01)
    raise Stop("strace does not say that the traced process has ended")


def writes_in(lines):
    """[(offset, length)]"""
    begun = {}  # by thread: the arguments of a call that another thread's lines interrupt
    for line in lines:
        match = CALL.match(line)
        if not match:
            continue
        thread, fresh, resumed, rest = match.groups()
        if resumed:
            name, rest = resumed, begun.pop(thread, "") + rest
        else:
            name = fresh
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>")
            continue
        arguments, _, result = rest.rpartition(" = ")
        numbers = re.findall(r", (\d+|RWF_\w+)", arguments.rstrip().removesuffix(")"))
        if result.isdigit() and numbers:
            yield int(numbers[-2 if name == "pwritev2" else -1]), int(result)


def barriers_in(lines):
    return sum(1 for line in lines if BARRIER.match(line))


def metadata_of(image):
    """[(start, end)] of header, tables and refcount blocks in an image, in the order of the file."""
    with open(image, "rb") as file:
        head = file.read(60)
        cluster_bits, = struct.unpack_from(">I", head, 20)
        l1_size, l1_at, counts_at, counts_clusters = struct.unpack_from(">IQQI", head, 36)
        cluster = 1 << cluster_bits
        ranges = [(0, cluster), (l1_at, l1_at + -(-l1_size * 8 // cluster) * cluster),
                  (counts_at, counts_at + counts_clusters * cluster)]
        for table_at, entries in ((l1_at, l1_size), (counts_at, counts_clusters * cluster // 8)):
            file.seek(table_at)
            for entry, in struct.iter_unpack(">Q", file.read(entries * 8)):
                at = entry & 0x00FF_FFFF_FFFF_FE00
                if at:
                    ranges.append((at, at + cluster))
    return sorted(set(ranges))


def account(path, image):
    """{"barriers", "written", "metadata"} of a traced server that has ended: a count and two numbers of bytes."""
    lines = lines_of(path)
    os.unlink(path)
    ranges = metadata_of(image)
    written = metadata = 0
    for at, length in writes_in(lines):
        written += length
        metadata += sum(max(0, min(at + length, end) - max(at, start)) for start, end in ranges)
    return {"barriers": barriers_in(lines), "written": written, "metadata": metadata}
