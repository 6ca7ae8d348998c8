"""What was written to a disk and when, and which values may be read back: the judge of the tests in which many
write at once or the daemon is killed.

Every write has a number, and every sector of 512 bytes holds that number, its own place, and bytes that follow from
the two: a sector that was mixed of two writes, or lies where it does not belong, is recognised. Zeros have the
number 0, however they came about.

The judge is the check of a regular register, sector by sector. A read may return the value of a write that began
before the read ended, unless another write lies wholly between: began after that write had ended, and ended before
the read began. A crash is judged the same way: looking at what is left is a read that "began" when the last fsync
that succeeded began, and never ended: what had been written by then cannot have been lost, all later may be.
"""

import bisect
import itertools
import random
import struct
import threading
import time

SECTOR = 512
ZEROS = bytes(SECTOR)
ZERO, TORN = 0, -1  # numbers of no write: what zeroing leaves, and what no write can have left
BEFORE_ALL, NEVER = 0, 1 << 62

HEAD = struct.Struct("<QQ")
POOL = random.Random("history").randbytes(1 << 20)


def value(number, sector):
    """What write `number` puts into `sector`: compressible for some numbers, not for others."""
    head = HEAD.pack(number, sector)
    kind = number % 3
    if kind == 0:
        return head * (SECTOR // len(head))
    start = (number * 7919 + sector * 104729) * 31 % (len(POOL) - SECTOR)
    if kind == 1:
        return head + POOL[start:start + SECTOR - len(head)]
    return head + POOL[start:start + 100] + bytes(SECTOR - len(head) - 100)


def content(number, first, count):
    """What write `number` puts into `count` sectors from `first`."""
    return b"".join([value(number, sector) for sector in range(first, first + count)])


def numbers_in(data, first):
    """The numbers of the writes that left `data`, which lies from sector `first`, sector by sector."""
    found = []
    for at in range(0, len(data), SECTOR):
        sector = data[at:at + SECTOR]
        if sector == ZEROS:
            found.append(ZERO)
            continue
        number, place = HEAD.unpack_from(sector)
        known = number != ZERO and place == first + at // SECTOR and sector == value(number, place)
        found.append(number if known else TORN)
    return found


class Recorder:
    """Keeps what is asked of one disk: [(begin, end, number, first sector, count)], `end` being NEVER where the
    answer was an error. Any thread may record; processes have one each, and their writes different numbers."""

    def __init__(self, first_number=1):
        self.numbers = itertools.count(first_number)
        self.writes = []
        self.reads = []  # (begin, end, first sector, numbers)
        self.durable = BEFORE_ALL + 1  # when the latest fsync that succeeded began
        self.syncs = 0
        self.lock = threading.Lock()

    def new_number(self):
        with self.lock:
            return next(self.numbers)

    def began(self, number, first, count):
        """To be called before a write is asked for; ended() when it has succeeded."""
        record = [time.monotonic_ns(), NEVER, number, first, count]
        self.writes.append(record)
        return record

    @staticmethod
    def ended(record):
        record[1] = time.monotonic_ns()

    def write(self, number, first, count, call):
        record = self.began(number, first, count)
        call()
        self.ended(record)

    def sync(self, call):
        began = time.monotonic_ns()
        call()
        with self.lock:
            self.durable = max(self.durable, began)
            self.syncs += 1

    def read(self, first, count, call):
        """`call` returns the bytes; what lies beyond the end of the disk counts as zeros."""
        began = time.monotonic_ns()
        data = call()
        self.have_read(began, time.monotonic_ns(), first, count, data)

    def have_read(self, began, ended, first, count, data):
        self.reads.append((began, ended, first, numbers_in(data.ljust(count * SECTOR, b"\0"), first)))


def writes_by_sector(records, baseline):
    """[[(begin, end, number)]], one list for each sector; `baseline` has the numbers that were there before."""
    found = [[(BEFORE_ALL, BEFORE_ALL, number)] for number in baseline]
    for begin, end, number, first, count in records:
        for sector in range(first, first + count):
            found[sector].append((begin, end, number))
    return found


def reads_by_sector(records, sectors):
    found = [[] for _ in range(sectors)]
    for begin, end, first, numbers in records:
        for sector, number in enumerate(numbers, first):
            found[sector].append((begin, end, number))
    return found


class Register:
    """One sector's writes, [(begin, end, number)], ready to be asked about reads."""

    def __init__(self, writes):
        ended = sorted((end, begin) for begin, end, _ in writes if end != NEVER)
        self.ends = [end for end, _ in ended]
        self.newest = list(itertools.accumulate((begin for _, begin in ended), max))
        zeros = sorted((begin, end) for begin, end, number in writes if number == ZERO)
        self.zero_begins = [begin for begin, _ in zeros]
        self.zero_ends = list(itertools.accumulate((end for _, end in zeros), max))
        self.others = {number: (begin, end) for begin, end, number in writes if number != ZERO}

    def fault(self, begin, end, number):
        """Why a read from `begin` to `end` may not have returned `number`, or nothing."""
        if number == TORN:
            return "holds what no write has left"
        if number == ZERO:
            earlier = bisect.bisect_left(self.zero_begins, end)
            if earlier == 0:
                return "holds zeros, but nobody had zeroed it"
            written = self.zero_ends[earlier - 1]
        elif number not in self.others:
            return f"holds write {number}, which is none of this sector's"
        else:
            write_began, written = self.others[number]
            if write_began >= end:
                return f"holds write {number}, which had not begun"
        completed = bisect.bisect_left(self.ends, begin)
        if completed and self.newest[completed - 1] > written:
            return f"holds {f'write {number}' if number else 'zeros'}, but that had been overwritten"
        return None


def misfits(writes, reads):
    """["sector n ..."]: the reads, by sector, that the writes, by sector, do not allow."""
    found = []
    for sector, (of_writes, of_reads) in enumerate(zip(writes, reads)):
        if not of_reads:
            continue
        register = Register(of_writes)
        for read in of_reads:
            fault = register.fault(*read)
            if fault:
                found.append(f"sector {sector} {fault}; its writes, with the read (marked) where it began:\n"
                             + timeline(of_writes, read))
    return found


def timeline(writes, read, lines=12):
    """The events of one sector around a read, for a person."""
    rows = sorted([(begin, end, f"write {number}" if number else "zeroing") for begin, end, number in writes]
                  + [(read[0], read[1], f"-> read {read[2]}")])
    place = next(index for index, row in enumerate(rows) if row[2].startswith("->"))
    shown = rows[max(0, place - lines):place + 3]
    zero = shown[0][0] if shown[0][0] != BEFORE_ALL else shown[min(1, len(shown) - 1)][0]

    def moment(at):
        return "never" if at == NEVER else "before" if at == BEFORE_ALL else f"{(at - zero) / 1000:.1f} us"

    return "\n".join(f"    {what:24} {moment(begin)} .. {moment(end)}" for begin, end, what in shown)


def losses(recorder, baseline, data):
    """["sector n ..."]: what a crash may not have left, given all of the disk's bytes after it."""
    found = numbers_in(data, 0)
    seen = [[(recorder.durable, NEVER, number)] for number in found]
    return misfits(writes_by_sector(recorder.writes, baseline), seen)
