"""How much is done of what could be done without end: a part in `make test`, all in `make soak`.

The one place that reads ``EXCHANGE_SOAK``. docs/testing.md states every amount, and why the part
is enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

SOAK: Final = os.environ.get("EXCHANGE_SOAK") == "1"


@dataclass(frozen=True)
class Amount:
    what: str
    test: int
    soak: int

    @property
    def now(self) -> int:
        return self.soak if SOAK else self.test


BITS_OF_A_BATCH: Final = Amount("bits of each byte of a sealed file", 1, 8)
BITS_OF_A_PROOF: Final = Amount("bits of each byte of a proof", 1, 8)
BITS_OF_A_SEAL: Final = Amount("bits of each byte of a signature, in every format", 1, 8)
BYTES: Final = Amount("of the bytes of a file or signature of any format, one in", 3, 1)
REPEATED_BYTES: Final = Amount("of the bytes that stand so in a format before, one in", 16, 1)
BITS_OF_A_STAMP: Final = Amount("bits of each byte of a time stamp", 1, 8)
PICTURE_BYTES: Final = Amount("of the bytes in the middle of a picture, one in", 16, 1)
TABLES_OF_ANYTHING: Final = Amount("random tables of any type, for validation", 30, 800)
INPUTS: Final = Amount("spoilt inputs for each parser, thousandths of its number", 8, 1_000)
EXAMPLES: Final = Amount("examples of a property that names no number", 40, 200)
WORKBOOKS: Final = Amount("times 60 generated workbooks of each writer, and texts", 1, 17)
CUTS: Final = Amount("of the percents at which a workbook is cut, one in", 10, 1)
KILLS: Final = Amount("kills at each failpoint of node and province", 1, 3)
STEPS: Final = Amount("of the system calls of an append, one in", 2, 1)
HISTORIES: Final = Amount("histories of sources, quarantine and replays", 7, 40)
INTERLEAVINGS: Final = Amount("histories of open transactions and pulls, by server", 1, 100)
ATTACK: Final = Amount("seconds of silent connections at the receiver", 3, 120)
SCREENS: Final = Amount("screens of the walk that are compared with their pages", 2, 4)
KILLED: Final = Amount("of the failpoints at which a killed node is audited, one in", 4, 1)
PLANTED: Final = Amount("planted bugs that chaos must notice", 0, 1)

AMOUNTS: Final = (
    BITS_OF_A_BATCH,
    BITS_OF_A_PROOF,
    BITS_OF_A_SEAL,
    BITS_OF_A_STAMP,
    BYTES,
    REPEATED_BYTES,
    PICTURE_BYTES,
    TABLES_OF_ANYTHING,
    INPUTS,
    EXAMPLES,
    WORKBOOKS,
    CUTS,
    KILLS,
    STEPS,
    HISTORIES,
    INTERLEAVINGS,
    ATTACK,
    SCREENS,
    KILLED,
    PLANTED,
)


def sample(places: Sequence[int], first: int = 0) -> Sequence[int]:
    """Take one in so many places of bytes; ``first`` differs where formats are alike."""
    return places[first % BYTES.now :: BYTES.now]


def bits(places: Iterable[int], amount: Amount) -> Iterator[int]:
    """Number so many bits of each byte; which is the first differs from byte to byte."""
    for at in places:
        for turn in range(amount.now):
            yield 8 * at + (at + turn) % 8
