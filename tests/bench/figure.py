"""One line of the table: what was measured, beside what, and whether that is enough."""

import dataclasses
import operator
from typing import Optional

QEMU = "QEMU"
QEMU_UNCOMPRESSED = "QEMU, uncompressed image"

COMPARISONS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}
SIGNS = {">=": "≥", "<=": "≤", "<": "<"}


@dataclasses.dataclass(frozen=True)
class Goal:
    """`of` says what the number is about: "ratio" qcowfs / peer, the "value" itself, or the share of the "limit"."""

    comparison: str
    number: float
    of: str = "ratio"

    def __str__(self):
        ending = {"ratio": " ×", "value": "", "limit": " of the limit"}[self.of]
        number = f"{self.number:.0%}" if self.of == "limit" else f"{self.number:g}"
        return f"{SIGNS[self.comparison]} {number}{ending}"


@dataclasses.dataclass
class Figure:
    row: str
    work: str
    unit: str = ""
    ours: Optional[float] = None
    peer: Optional[float] = None
    peer_name: str = QEMU
    goal: Optional[Goal] = None
    limit: Optional[float] = None  # in the same unit: what codec, FUSE and disk would allow
    skipped: str = ""  # why nothing was measured

    @property
    def ratio(self):
        if self.ours is None or self.peer is None:
            return None
        if self.peer == 0:
            return 1.0 if self.ours == 0 else float("inf")
        return self.ours / self.peer

    @property
    def share(self):
        """How close it comes to the limit."""
        return self.ours / self.limit if self.ours is not None and self.limit else None

    @property
    def met(self):
        """None where there is nothing to judge."""
        if self.goal is None:
            return None
        number = {"ratio": self.ratio, "value": self.ours, "limit": self.share}[self.goal.of]
        return None if number is None else COMPARISONS[self.goal.comparison](number, self.goal.number)

    def as_dict(self):
        described = dataclasses.asdict(self)
        described["goal"] = str(self.goal) if self.goal else None
        return {**described, "ratio": self.ratio, "share_of_limit": self.share, "met": self.met}
