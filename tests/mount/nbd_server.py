"""NBD servers on this machine, each for one test: nbdkit, with whatever plugin and filters, and qemu-nbd."""

import os
import signal
import subprocess

import harness


class Server:
    """A server that listens on a socket in the test's folder, until it is killed or the test ends."""

    def __init__(self, case, command, socket, export, scheme="nbd", user="", query=""):
        self.socket = socket
        self.log = case.path(f"server-{case.next_number()}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        self.uri = f"{scheme}+unix://{user + '@' if user else ''}/{export}?socket={socket}{query}"
        case.addCleanup(self.kill)
        listens = os.path.exists if "--unix" in command or f"--socket={socket}" in command else lambda _: True
        harness.wait_for(lambda: listens(socket) or self.process.poll() is not None, 20)
        case.assertIsNone(self.process.poll(), harness.read_text(self.log))

    def has_let_go(self):
        """Nobody is connected any more, so nothing that a killed client had sent is still under way."""
        folder = f"/proc/{self.process.pid}/fd"
        return sum(os.readlink(os.path.join(folder, fd)).startswith("socket:") for fd in os.listdir(folder)) <= 1

    def kill(self):
        """At any moment, with whatever it has not written yet."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def end(self):
        """Everybody is served to the end."""
        self.process.terminate()
        self.process.wait(60)

    def stall(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


def nbdkit(case, *words, export="", options=(), **how):
    """`words` are the plugin, with filters before and parameters behind it; `options` nbdkit's own."""
    socket = case.path(f"nbd-{case.next_number()}.sock")
    door = [] if "--port" in options else ["--unix", socket]
    command = ["nbdkit", "--foreground", "--exit-with-parent", "--newstyle", "--threads", 16, *door, *options, *words]
    return Server(case, command, socket, export, **how)


def qemu_nbd(case, image, *options, export=""):
    """Of the bytes of the image file, as they are."""
    socket = case.path(f"nbd-{case.next_number()}.sock")
    command = ["qemu-nbd", "--format=raw", "--persistent", f"--socket={socket}", f"--export-name={export}", *options,
               image]
    return Server(case, command, socket, export)


def export_file(case, path, size):
    """A server of `size` bytes that begin with the image in the file, and are named like it. (Not nbdkit: its 1.32
    aborts now and then when a client is killed, in raw_send_socket.)"""
    os.truncate(path, size)
    return qemu_nbd(case, path, "--shared=16", "--discard=unmap", export=os.path.basename(path))
