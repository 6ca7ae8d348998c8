"""Several transfers of one descriptor under way at once. The kernel lets in one write(2) at a time for each file,
whoever asks; only its own asynchronous I/O (with O_DIRECT) gets several writes to the daemon together.

Called directly, as the C library has no functions for it and Debian's libaio would be one more package.
"""

import ctypes
import errno
import os
import platform
import struct
import time

CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}  # io_setup, destroy, getevents, submit
PREAD, PWRITE = 0, 1
IOCB = struct.Struct("<QIIHhIQQqQII")  # data, key, flags, operation, priority, fd, buffer, length, offset, ...
EVENT = struct.Struct("<QQqq")  # data, iocb, result, result 2

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(number, *arguments):
    while True:
        result = libc.syscall(ctypes.c_long(number), *arguments)
        if result >= 0:
            return result
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))


def obstacle():
    """Why there is no asynchronous I/O here, or nothing."""
    if platform.machine() not in CALLS:
        return f"the numbers of its system calls are not known for {platform.machine()}"
    try:
        Queue(1).close()
    except OSError as error:
        return f"io_setup: {error.strerror}"
    return None


class Queue:
    """For one thread."""

    def __init__(self, depth):
        self.setup, self.destroy, self.getevents, self.submit = CALLS[platform.machine()]
        self.context = ctypes.c_ulong(0)
        self.events = ctypes.create_string_buffer(EVENT.size * depth)
        call(self.setup, ctypes.c_uint(depth), ctypes.byref(self.context))

    def close(self):
        call(self.destroy, self.context)

    def transfer(self, requests, completed):
        """requests: [(fd, PREAD or PWRITE, offset, ctypes buffer, length)]. All are submitted together, and
        completed(index, result, end) is called for each, `result` being a length or a negative errno, `end` the
        moment after its completion was seen."""
        blocks = []
        for index, (fd, operation, offset, buffer, length) in enumerate(requests):
            packed = IOCB.pack(index, 0, 0, operation, 0, fd, ctypes.addressof(buffer), length, offset, 0, 0, 0)
            blocks.append(ctypes.create_string_buffer(packed, IOCB.size))
        pointers = (ctypes.c_void_p * len(blocks))(*[ctypes.addressof(block) for block in blocks])
        submitted = 0
        left = 0
        while submitted < len(blocks) or left > 0:
            if submitted < len(blocks):
                rest = ctypes.byref(pointers, submitted * ctypes.sizeof(ctypes.c_void_p))
                try:
                    taken = call(self.submit, self.context, ctypes.c_long(len(blocks) - submitted), rest)
                except OSError as error:  # of the first of the rest
                    completed(submitted, -error.errno, time.monotonic_ns())
                    submitted += 1
                    continue
                submitted += taken
                left += taken
                continue
            count = call(self.getevents, self.context, ctypes.c_long(1), ctypes.c_long(left), self.events, None)
            end = time.monotonic_ns()
            for number in range(count):
                index, _, result, _ = EVENT.unpack_from(self.events, number * EVENT.size)
                completed(index, result, end)
            left -= count
