"""Images, and what can be done to them: a small reader of the format that knows where the tables are, and a seeded hand
that damages them."""

import random
import struct

COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSET_MASK = ((1 << 56) - 1) & ~511
BITMAPS_EXTENSION = 0x23852875


class Image:
    """The bytes of an image, and where its parts lie. Reads sound images only; writes anything."""

    def __init__(self, data):
        self.data = bytearray(data)
        (self.version, ) = struct.unpack_from(">I", self.data, 4)
        (self.cluster_bits, self.size, self.crypt, self.l1_size, self.l1, self.refcount_table, self.table_clusters,
         self.snapshot_count, self.snapshot_table) = struct.unpack_from(">IQIIQQIIQ", self.data, 20)
        self.features = self.incompatible() if self.version > 2 else 0
        self.refcount_order = struct.unpack_from(">I", self.data, 96)[0] if self.version > 2 else 4
        self.header_length = struct.unpack_from(">I", self.data, 100)[0] if self.version > 2 else 72
        self.cluster = 1 << self.cluster_bits
        self.extended = bool(self.features & 16)
        self.external = bool(self.features & 4)
        self.entry_size = 16 if self.extended else 8
        self.l2_entries = self.cluster // self.entry_size
        # Found once, while the image is sound.
        self.snapshots = self.find_snapshots()
        self.l1_tables = self.find_l1_tables()
        self.l2_tables = sorted({self.word(at) & OFFSET_MASK for at in self.l1_entries()})

    def incompatible(self):
        return self.word(72)

    def word(self, at):
        return struct.unpack_from(">Q", self.data, at)[0] if at + 8 <= len(self.data) else 0

    def set_word(self, at, value):
        self.put(">Q", at, value & ((1 << 64) - 1))

    def put(self, kind, at, value):
        """Where the bytes are still there."""
        if at + struct.calcsize(kind) <= len(self.data):
            struct.pack_into(kind, self.data, at, value)

    def find_l1_tables(self):
        """[(offset, entries within the file)]: the disk's, then those of the snapshots."""
        tables = [(self.l1, self.l1_size)] + [(entry[0], entry[1]) for _, entry in self.snapshots]
        return [(at, max(0, min(size, (len(self.data) - at) // 8))) for at, size in tables]

    def find_snapshots(self):
        """[(where its entry is, its fields)]"""
        found = []
        at = self.snapshot_table
        for _ in range(self.snapshot_count):
            at = at + 7 & ~7
            if at + 40 > len(self.data):
                break
            fields = struct.unpack_from(">QIHHIIQII", self.data, at)
            found.append((at, fields))
            at += 40 + fields[8] + fields[2] + fields[3]
        return found

    def l1_entries(self, owner=None):
        """Where the entries are that name a table."""
        tables = self.l1_tables if owner is None else self.l1_tables[owner:owner + 1]
        return [at + 8 * i for at, size in tables for i in range(size) if self.word(at + 8 * i) & OFFSET_MASK]

    def l2_entries_at(self, used=True):
        """Where the L2 entries are: those with something in them, or all."""
        every = [table + i * self.entry_size for table in self.l2_tables for i in range(self.l2_entries)]
        return [at for at in every if self.word(at)] if used else every

    def compressed_entries(self):
        return [at for at in self.l2_entries_at() if self.word(at) & COMPRESSED]

    def fragment(self, entry):
        """(first byte, bytes to the end of the last sector)"""
        shift = 70 - self.cluster_bits
        at = entry & ((1 << shift) - 1)
        return at, (((entry & (COMPRESSED - 1)) >> shift) + 1) * 512 - at % 512

    def refcount_table_words(self, used=True):
        words = range(self.refcount_table, self.refcount_table + self.table_clusters * self.cluster, 8)
        return [at for at in words if self.word(at)] if used else list(words)

    def refcount_blocks(self):
        return [self.word(at) for at in self.refcount_table_words()]

    def bitmap_extension(self):
        at = self.header_length
        while at + 8 <= self.cluster:
            kind, length = struct.unpack_from(">II", self.data, at)
            if kind == BITMAPS_EXTENSION:
                return at + 8
            if kind == 0:
                return None
            at += 8 + (length + 7 & ~7)
        return None

    def bitmap_tables(self):
        extension = self.bitmap_extension()
        if extension is None:
            return []
        count, _, _, directory = struct.unpack_from(">IIQQ", self.data, extension)
        tables = []
        at = directory
        for _ in range(count):
            table, size, _, _, _, name_size, _ = struct.unpack_from(">QIIBBHI", self.data, at)
            tables.append((at, table, size))
            at += 24 + name_size + 7 & ~7
        return tables


class Damager:
    """Does one random thing after the other to an image; `log` says what."""

    def __init__(self, image, seed):
        self.image = image
        self.random = random.Random(f"damage {seed}")
        self.bitmap_extension = image.bitmap_extension()
        self.bitmap_tables = image.bitmap_tables()
        self.log = []

    def damage(self):
        acts = [self.l1_entry, self.l2_entry, self.l2_entry, self.l2_entry, self.refcount, self.refcount,
                self.refcount_table, self.length, self.header, self.garbage]
        if self.image.snapshot_count:
            acts += [self.snapshot, self.snapshot_l1]
        if self.bitmap_tables:
            acts += [self.bitmap, self.bitmap]
        if self.image.extended:
            acts += [self.subclusters, self.subclusters]
        if self.image.compressed_entries():
            acts += [self.fragment, self.fragment]
        self.random.choice(acts)()

    def some_cluster(self):
        return self.random.randrange(1, len(self.image.data) // self.image.cluster + 1) * self.image.cluster

    def change(self, at, value, what):
        self.log.append(f"{what} at {at:#x}: {self.image.word(at):#x} -> {value & (1 << 64) - 1:#x}")
        self.image.set_word(at, value)

    def change_entry(self, at, what):
        """Of an L1 or an L2 table. It goes on naming something, or nothing at all."""
        word = self.image.word(at)
        offset = word & OFFSET_MASK
        rest = word & ~OFFSET_MASK
        self.change(at, self.random.choice([
            lambda: word ^ COPIED, lambda: word ^ COPIED, lambda: 0,
            lambda: word | 1 << self.random.randrange(1, 9), lambda: word | 1 << self.random.randrange(56, 62),
            lambda: word + 512 * self.random.randrange(1, 8),
            lambda: rest | self.some_cluster(),
            lambda: rest | (offset or self.image.cluster) + (len(self.image.data) & ~(self.image.cluster - 1)),
            lambda: word | 1 << 55, lambda: rest | self.image.refcount_table, lambda: rest | self.image.l1,
        ])(), what)

    def l1_entry(self):
        entries = self.image.l1_entries(0)
        if entries:
            self.change_entry(self.random.choice(entries), "L1 entry")

    def snapshot_l1(self):
        entries = self.image.l1_entries(self.random.randrange(1, self.image.snapshot_count + 1))
        if entries:
            self.change_entry(self.random.choice(entries), "snapshot's L1 entry")

    def l2_entry(self):
        used = self.image.l2_entries_at()
        every = self.image.l2_entries_at(used=False)
        if not every:
            return
        at = self.random.choice(used if used and self.random.random() < 0.8 else every)
        if used and self.random.random() < 0.3:
            return self.change(at, self.image.word(self.random.choice(used)), "L2 entry, another's")
        if self.random.random() < 0.15:
            return self.change(at, self.image.word(at) ^ self.random.choice([ZERO, COMPRESSED]), "L2 entry")
        self.change_entry(at, "L2 entry")

    def fragment(self):
        at = self.random.choice(self.image.compressed_entries())
        word = self.image.word(at)
        shift = 70 - self.image.cluster_bits
        self.change(at, self.random.choice([
            lambda: word | COPIED, lambda: word + (1 << shift), lambda: word - (1 << shift),
            lambda: word + self.random.randrange(1, 5000), lambda: word - self.random.randrange(1, 5000),
            lambda: word | (1 << 62) - (1 << shift), lambda: word | 1 << shift - 1,
            lambda: word & ~((1 << shift) - 1), lambda: word & ~((1 << shift) - 1) | len(self.image.data) - 100,
        ])(), "compressed entry")

    def subclusters(self):
        used = self.image.l2_entries_at()
        every = self.image.l2_entries_at(used=False)
        if not every:
            return
        at = self.random.choice(used if used and self.random.random() < 0.7 else every)
        self.change(at + 8, self.random.choice([
            lambda: self.random.getrandbits(64), lambda: self.image.word(at + 8) ^ 1 << self.random.randrange(64),
            lambda: 1 << self.random.randrange(32), lambda: 1 << self.random.randrange(32, 64), lambda: 0,
        ])(), "subclusters")

    def refcount(self):
        blocks = [at for at in self.image.refcount_blocks() if at + self.image.cluster <= len(self.image.data)]
        if not blocks:
            return
        block = self.random.choice(blocks)
        counted = max(1, (len(self.image.data) // self.image.cluster + 8 << self.image.refcount_order) // 8)
        at = block + self.random.randrange(min(counted, self.image.cluster))
        value = self.random.choice([0, 0, 1, 2, 3, 255, self.random.randrange(256)])
        self.log.append(f"refcount byte {at:#x}: {self.image.data[at]} -> {value}")
        self.image.data[at] = value

    def refcount_table(self):
        used = self.image.refcount_table_words()
        every = self.image.refcount_table_words(used=False)
        at = self.random.choice(used if used and self.random.random() < 0.7 else every)
        word = self.image.word(at)
        self.change(at, self.random.choice([
            lambda: 0, lambda: word | 1 << self.random.randrange(9), lambda: word + 512, lambda: self.some_cluster(),
            lambda: word + (1 << 40), lambda: word | 1 << 56, lambda: word | 1 << 63, lambda: self.image.l1,
            lambda: self.random.choice(used) and self.image.word(self.random.choice(used)),
        ])() if used else self.some_cluster(), "refcount table entry")

    def length(self):
        data = self.image.data
        old = len(data)
        kind = self.random.randrange(4)
        if kind == 0:
            del data[max(old - self.random.randrange(1, 3 * self.image.cluster), self.image.cluster):]
        elif kind == 1:
            data += bytes(self.random.randrange(1, 3 * self.image.cluster))
        elif kind == 2:
            del data[max(old - self.random.randrange(1, 700), self.image.cluster):]
        else:
            data += bytes(-old % self.image.cluster + self.image.cluster)
        self.log.append(f"length {old} -> {len(data)}")

    def header(self):
        acts = [lambda: self.image.put(">I", 36, self.image.l1_size + self.random.randrange(-1, 70)),
                lambda: self.image.put(">Q", 40, self.some_cluster()),
                lambda: self.image.put(">Q", 48, self.some_cluster()),
                lambda: self.image.put(">I", 56, self.random.randrange(3)),
                lambda: self.image.put(">I", 60, self.random.randrange(4)),
                lambda: self.image.put(">Q", 64, self.some_cluster())]
        if self.image.version > 2:
            acts += [lambda: self.image.set_word(72, self.image.word(72) | self.random.choice([1, 2, 3])),
                     lambda: self.image.set_word(72, self.image.word(72) ^ 1 << self.random.randrange(5, 64)),
                     lambda: self.image.set_word(88, self.image.word(88) ^ 1)]
        number = self.random.randrange(len(acts))
        acts[number]()
        self.log.append(f"header, act {number}")

    def snapshot(self):
        at, fields = self.random.choice(self.image.snapshots)
        acts = [lambda: self.image.set_word(at, fields[0] + 512), lambda: self.image.set_word(at, self.some_cluster()),
                lambda: self.image.put(">I", at + 8, self.random.choice([0, 1, 5, 1 << 23])),
                lambda: self.image.set_word(at, fields[0] + (1 << 40)),
                lambda: self.image.put(">I", at + 36, self.random.choice([0, 8, 16, 32, 2000]))]
        number = self.random.randrange(len(acts))
        acts[number]()
        self.log.append(f"snapshot, act {number}")

    def bitmap(self):
        entry, table, size = self.random.choice(self.bitmap_tables)
        used = [table + 8 * i for i in range(size) if self.image.word(table + 8 * i) & OFFSET_MASK]
        acts = [lambda: self.image.set_word(table, 1), lambda: self.image.set_word(table, self.some_cluster()),
                lambda: self.image.set_word(table, 2), lambda: self.image.set_word(table, self.image.cluster + 512),
                lambda: self.image.set_word(entry, self.some_cluster()),
                lambda: self.image.put(">I", entry + 12, self.random.randrange(5)),
                lambda: self.image.put(">I", entry + 8, self.random.randrange(4)),
                lambda: self.image.put(">B", entry + 17, self.random.randrange(8, 33)),
                lambda: self.image.set_word(self.bitmap_extension + 16, self.some_cluster()),
                lambda: used and self.image.set_word(self.random.choice(used), 0)]
        number = self.random.randrange(len(acts))
        acts[number]()
        self.log.append(f"bitmap, act {number}")

    def garbage(self):
        """A few bytes somewhere in the tables."""
        tables = self.image.l1_entries() + self.image.l2_entries_at() + self.image.refcount_blocks()
        at = self.random.choice(tables or [self.image.l1]) + self.random.randrange(8)
        if at < len(self.image.data):
            value = self.random.randrange(256)
            self.log.append(f"byte {at:#x}: {self.image.data[at]} -> {value}")
            self.image.data[at] = value
