"""Bytes to write: the same for the same seed, compressible or not, and trees of files made of them."""

import os
import random

WORDS = ("cluster offset table entry refcount block sector header image disk guest host write read flush "
         "commit barrier durable space zero page cache stream window level").split()


def noise(size, seed):
    """What no codec makes smaller."""
    return random.Random(f"noise {seed}").randbytes(size)


def text(size, seed):
    """What compresses to about a third, and is nowhere the same twice."""
    source = random.Random(f"text {seed}")
    paragraph = " ".join(source.choices(WORDS, k=9000))
    pieces = []
    length = 0
    while length < size:
        start = source.randrange(len(paragraph) - 4096)
        end = start + source.randrange(200, 4000)
        piece = f"{source.getrandbits(64):016x} {paragraph[start:end]}\n".encode()
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)[:size]


def mixed(size, seed, piece_max=200000):
    """Text, noise and zeros in turn, in pieces of any length."""
    source = random.Random(f"mixed {seed}")
    pieces = []
    left = size
    while left > 0:
        length = min(left, source.randrange(1, piece_max))
        kind = source.randrange(4)
        pieces.append(noise(length, source.random()) if kind == 0 else
                      bytes(length) if kind == 1 else text(length, source.random()))
        left -= length
    return b"".join(pieces)


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


def write_sparse_file(path, size, extents):
    """A file of `size` bytes with [(offset, data)] in it and holes between."""
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, data in extents:
            file.seek(offset)
            file.write(data)
    return path


def make_tree(folder, seed, size):
    """About `size` bytes in files of every kind that a file system knows."""
    source = random.Random(f"tree {seed}")
    os.makedirs(folder)
    left = size
    number = 0
    while left > 0:
        sub = os.path.join(folder, *(f"d{source.randrange(4)}" for _ in range(source.randrange(1, 4))))
        os.makedirs(sub, exist_ok=True)
        length = min(left, int(2 ** source.uniform(0, 21)))
        make = noise if source.random() < 0.2 else text
        path = write_file(os.path.join(sub, f"file {number}"), make(length, source.random()))
        os.chmod(path, source.choice([0o600, 0o644, 0o755]))
        if source.random() < 0.05:
            os.symlink(os.path.basename(path), path + ".symlink")
        if source.random() < 0.05:
            os.link(path, path + ".link")
        left -= length
        number += 1
    write_file(os.path.join(folder, "empty"), b"")
    extents = [(1 << 20, b"in the middle"), (3000000, b"late")]
    write_sparse_file(os.path.join(folder, "sparse"), 3 << 20, extents)
    write_file(os.path.join(folder, "größe"), text(1000, seed))
    return folder
