"""The compiled kernel ``hash_kernel.c``, by ctypes: found, tested, and preferred to Python.

It is optional. The build of the package compiles it where there is a C compiler; where it is
missing, ``hash_python`` runs. Before its first use it hashes a small batch in both suites and
has to give the roots that are written here. A library that gives another one, or cannot be
loaded, is not used: the defect is logged as an error, and doctor, version and metrics show it.

ctypes lets go of the interpreter's lock during each call. Every length is checked here and
again in C. The level of the processor (SSE2 or NEON, AVX2, AVX-512) is found at run time.
"""

from __future__ import annotations

import ctypes
import logging
from array import array
from collections.abc import Sequence
from ctypes import c_char_p, c_int, c_uint8, c_uint64, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from exchange.seal.crypto.hash_python import (
    HASH_SIZE,
    Offsets,
    PythonHashing,
    TreeHashing,
    checked_count,
    checked_rows,
    level_sizes,
)
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, Suite
from exchange.text import Text

LIBRARY: Final = Path(__file__).with_name("libhashkernel.so")
_LOGGER = logging.getLogger(__name__)

_INTERFACE: Final = 1
_ALGORITHMS: Final = {SM2_SM3.hash_name: 0, ECDSA_P256_SHA256.hash_name: 1}
_WORD: Final = 8
_NUMBERS: Final[list[Any]] = [c_int, c_int, c_uint8]
_INPUT: Final[list[Any]] = [c_char_p, c_uint64]
_OUTPUT: Final[list[Any]] = [c_void_p, c_uint64]

KNOWN_ROOTS: Final = {
    SM2_SM3.id: "a9f58acd331824e277d177654ba6a82e7eb764781d83276aa5973826b29d9b92",
    ECDSA_P256_SHA256.id: "ca1c8096058d0d3cd635699fa034531f8dbb32848d4c16f3c52d7aa829e250c7",
}
"""Roots of the self-test's batch, by suite (hex)."""


class KernelLevel(IntEnum):
    """What instructions a copy of the code uses; a processor has all those below its own."""

    BASELINE = 0
    AVX2 = 1
    AVX512 = 2


class KernelDefect(Exception):
    """The library is there and must not be used; the text says why."""


@dataclass(frozen=True, slots=True)
class HashingChoice:
    """What runs in this process, and why."""

    hashing: TreeHashing
    text: Text
    defect: bool = False
    """Whether a library is there that must not be used."""

    @property
    def label(self) -> str:
        """One word for a metric: ``python``, ``defect``, or the level of the kernel."""
        return "defect" if self.defect else self.hashing.name


class CompiledHashing:
    """The kernel at one level of the processor; see :class:`TreeHashing` for the functions."""

    def __init__(self, library: ctypes.CDLL, level: KernelLevel) -> None:
        """Bind the functions; raises KernelDefect where they, or the level, are missing."""
        try:
            interface = library.hash_kernel_interface
            self._leaves = library.hash_kernel_leaves
            self._tree = library.hash_kernel_tree
        except AttributeError as error:
            raise KernelDefect(str(error)) from error
        interface.restype, interface.argtypes = c_int, []
        if (found := interface()) != _INTERFACE:
            raise KernelDefect(f"interface {found}, not {_INTERFACE}: built from other source")
        self._leaves.restype = self._tree.restype = c_int
        self._leaves.argtypes = [*_NUMBERS, *_INPUT, *_INPUT, *_INPUT, *_OUTPUT]
        self._tree.argtypes = [*_NUMBERS, *_INPUT, *_OUTPUT]
        if level not in levels(library):
            raise KernelDefect(f"this processor has no {level.name}")
        self.level = level
        self.name = level.name.lower()

    def leaves(
        self, suite: Suite, prefix: bytes, records: bytes, offsets: Offsets, salts: bytes
    ) -> bytes:
        """Hash all records, as :class:`TreeHashing` says."""
        rows = checked_rows(offsets, salts)
        digests = ctypes.create_string_buffer(max(rows * HASH_SIZE, 1))
        refused = self._leaves(
            *(self.level, _ALGORITHMS[suite.hash_name], ord(prefix)),
            *(records, len(records)),
            *(_int64(offsets), len(offsets)),
            *(salts, len(salts)),
            *(digests, rows * HASH_SIZE),
        )
        if refused:
            raise ValueError("offsets fall, or leave the records")
        return ctypes.string_at(digests, rows * HASH_SIZE)

    def tree(self, suite: Suite, prefix: bytes, leaves: bytes) -> bytes:
        """Hash the tree above the leaves, as :class:`TreeHashing` says."""
        size = sum(level_sizes(checked_count(leaves))) * HASH_SIZE
        nodes = ctypes.create_string_buffer(max(size, 1))
        refused = self._tree(
            *(self.level, _ALGORITHMS[suite.hash_name], ord(prefix)),
            *(leaves, len(leaves)),
            *(nodes, size),
        )
        if refused:
            raise ValueError(f"a tree has at least one leaf, whole hashes: {len(leaves)} bytes")
        return ctypes.string_at(nodes, size)


def _int64(offsets: Offsets) -> bytes:
    """Return the offsets as 64-bit integers of this machine, end to end."""
    if isinstance(offsets, Sequence):
        return array("q", offsets).tobytes()
    if offsets.dtype.kind != "i" or offsets.itemsize != _WORD:
        raise ValueError(f"offsets of the type {offsets.dtype}")
    return offsets.tobytes()


def levels(library: ctypes.CDLL) -> list[KernelLevel]:
    """Return the levels that this processor has, the fastest first."""
    has = library.hash_kernel_has
    has.restype, has.argtypes = c_int, [c_int]
    return [level for level in reversed(KernelLevel) if has(level)]


def root_of_known_batch(hashing: TreeHashing, suite: Suite) -> str:
    """Hash the self-test's batch: 151 records of 0 to 150 bytes, all paddings, an odd tree."""
    sizes = range(151)
    records = bytes(at * 7 & 0xFF for at in range(sum(sizes)))
    salts = bytes(at * 13 & 0xFF for at in range(16 * len(sizes)))
    offsets = list(accumulate(sizes, initial=0))
    leaves = hashing.leaves(suite, b"\x00", records, offsets, salts)
    return hashing.tree(suite, b"\x01", leaves)[-HASH_SIZE:].hex()


def load(path: Path, level: KernelLevel | None = None) -> CompiledHashing:
    """Load a library and test it; raises KernelDefect. ``level``: by default the fastest."""
    try:
        library = ctypes.CDLL(str(path))
        chosen = levels(library)[0] if level is None else level
    except (OSError, AttributeError) as error:
        raise KernelDefect(f"cannot be loaded: {error}") from error
    hashing = CompiledHashing(library, chosen)
    for suite in (SM2_SM3, ECDSA_P256_SHA256):
        if root_of_known_batch(hashing, suite) != KNOWN_ROOTS[suite.id]:
            raise KernelDefect(f"wrong answer of the self-test ({suite.hash_name}, {hashing.name})")
    return hashing


def choose(path: Path) -> HashingChoice:
    """Take the library at ``path`` if it is there and right, Python otherwise."""
    if not path.exists():
        return HashingChoice(
            PythonHashing(),
            Text("杂凑由 Python 计算（未编译内核）", "hashing in Python: no compiled kernel here"),
        )
    try:
        hashing = load(path)
    except KernelDefect as error:
        _LOGGER.error("the compiled kernel %s is not used, hashing in Python: %s", path, error)  # noqa: TRY400 - the reason says it all
        text = Text(
            f"编译内核不可用，杂凑由 Python 计算：原文：{error}",
            f"hashing in Python, the compiled kernel is not used: {error}",
        )
        return HashingChoice(PythonHashing(), text, defect=True)
    return HashingChoice(
        hashing,
        Text(f"杂凑由编译内核计算（{hashing.name}）", f"hashing in compiled code ({hashing.name})"),
    )


@cache
def chosen() -> HashingChoice:
    """Choose once per process, from the library beside this module."""
    return choose(LIBRARY)
