"""The compiled kernel, at every level of this processor, and Python give the bytes of hashlib.

The kernel is compiled here, with warnings as errors; once more with sanitizers, and for aarch64
where a cross compiler and an emulator are. Without a compiler only Python is tested, and the
end of the run says so. Costs 9 CPU seconds, 6 of them the compiler's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import exchange
from exchange.connect.conformance import NotTested
from exchange.seal.crypto.hash_kernel import (
    KNOWN_ROOTS,
    KernelDefect,
    KernelLevel,
    choose,
    load,
    root_of_known_batch,
)
from exchange.seal.crypto.hash_python import PythonHashing, TreeHashing, level_sizes
from exchange.seal.crypto.suites import SUITES, Suite
from tests.support.pages import ROOT
from tools.build_kernel import FOLDER, compile_kernel, compiler

STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
HEADER = struct.Struct("=9Q")
ALGORITHMS = {"sm2-sm3": 0, "ecdsa-p256-sha256": 1}
LEAF, NODE = b"\x00", b"\x01"


def random_bytes(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@dataclass(frozen=True)
class Batch:
    """Records of the given lengths, and the hashes that hashlib makes of them."""

    lengths: Sequence[int]
    salted: bool = True

    @property
    def records(self) -> bytes:
        return random_bytes(sum(self.lengths), len(self.lengths))

    @property
    def offsets(self) -> list[int]:
        return list(accumulate(self.lengths, initial=0))

    @property
    def salts(self) -> bytes:
        return random_bytes(16 * len(self.lengths), 1) if self.salted else b""

    def leaves(self, suite: Suite) -> bytes:
        records, salts = self.records, self.salts
        return b"".join(
            hashlib.new(
                suite.hash_name, LEAF + salts[16 * i : 16 * i + 16] + records[start:end]
            ).digest()
            for i, (start, end) in enumerate(pairwise(self.offsets))
        )


def by_the_book(suite: Suite, hashes: bytes) -> bytes:
    """All levels above, by hashlib alone."""
    below = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    levels = b""
    while len(below) > 1:
        above = []
        for at in range(0, len(below), 2):
            pair = below[at : at + 2]
            both = hashlib.new(suite.hash_name, NODE + b"".join(pair)).digest()
            above.append(both if len(pair) > 1 else pair[0])
        levels += b"".join(above)
        below = above
    return levels


SHAPES = (
    *(Batch([(7 * i * i + count) % 131 for i in range(count)]) for count in range(41)),
    *(Batch([length]) for length in range(301)),
    Batch(range(301)),
    Batch([*range(300, -1, -1)], salted=False),
    Batch([0] * 17),
    Batch([]),
    Batch([1_048_579, 0, 3, 64, 47, 110, 1000]),
    Batch([5] * 20 + [70_000] + [5] * 20, salted=False),
)
"""Every length 0 to 300 alone and together, 0 to 40 records, empty and huge ones."""


@cache
def has_compiler() -> bool:
    if compiler():
        return True
    warnings.warn(NotTested("not tested: the compiled hash kernel, no C compiler"), stacklevel=2)
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernel")


@pytest.fixture(scope="module")
def hashings(folder: Path) -> list[TreeHashing]:
    """Python, and the kernel at every level that this processor has."""
    ways: list[TreeHashing] = [PythonHashing()]
    if has_compiler():
        library = folder / "library.so"
        compile_kernel(compiler(), ROOT, library, *STRICT)
        fastest = load(library).level
        ways += [load(library, level) for level in KernelLevel if level <= fastest]
    return ways


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_leaves_are_those_of_hashlib(suite: Suite, hashings: list[TreeHashing]) -> None:
    for batch in SHAPES:
        expected = batch.leaves(suite)
        for hashing in hashings:
            found = hashing.leaves(suite, LEAF, batch.records, batch.offsets, batch.salts)
            assert found == expected, (hashing.name, batch)


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_trees_are_those_of_hashlib(suite: Suite, hashings: list[TreeHashing]) -> None:
    for count in (*range(1, 71), 256, 1000):
        leaves = random_bytes(32 * count, count)
        expected = by_the_book(suite, leaves)
        assert len(expected) == 32 * sum(level_sizes(count))
        for hashing in hashings:
            assert hashing.tree(suite, NODE, leaves) == expected, (hashing.name, count)


@given(
    records=st.lists(st.binary(max_size=200), max_size=40),
    prefix=st.binary(min_size=1, max_size=1),
    salted=st.booleans(),
    suite=st.sampled_from(list(SUITES.values())),
)
def test_any_records_of_any_shape(
    hashings: list[TreeHashing], records: list[bytes], prefix: bytes, *, salted: bool, suite: Suite
) -> None:
    salts = random_bytes(16 * len(records), 3) if salted else b""
    expected = b"".join(
        hashlib.new(suite.hash_name, prefix + salts[16 * i :][:16] + record).digest()
        for i, record in enumerate(records)
    )
    offsets = list(accumulate(map(len, records), initial=0))
    for hashing in hashings:
        for same in (offsets, np.array(offsets, np.int64)):
            assert hashing.leaves(suite, prefix, b"".join(records), same, salts) == expected


BROKEN_OFFSETS: tuple[list[int], ...] = (
    [],
    [-1, 2],
    [0, 11],
    [0, 5, 4],
    [3, 2],
    [0, 1 << 62],
    [-(1 << 63), 0],
    [5, -5],
)


def test_what_does_not_fit_is_refused_by_both(hashings: list[TreeHashing]) -> None:
    for hashing in hashings:
        for suite in SUITES.values():
            for offsets in BROKEN_OFFSETS:
                salts = bytes(16 * max(len(offsets) - 1, 0))
                with pytest.raises(ValueError, match="offsets"):
                    hashing.leaves(suite, LEAF, bytes(10), offsets, salts)
            for size in (1, 15, 17, 48):
                with pytest.raises(ValueError, match="salts"):
                    hashing.leaves(suite, LEAF, bytes(10), [0, 5, 10], bytes(size))
            for size in (0, 1, 31, 33):
                with pytest.raises(ValueError, match="hashes"):
                    hashing.tree(suite, NODE, bytes(size))


def test_the_roots_of_the_self_test_are_those_of_hashlib() -> None:
    for suite in SUITES.values():
        assert root_of_known_batch(PythonHashing(), suite) == KNOWN_ROOTS[suite.id]


# --- a library that must not be used ---------------------------------------------------------


def test_without_a_library_python_runs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    choice = choose(folder / "nothing.so")
    assert (choice.hashing.name, choice.label, choice.defect) == ("python", "python", False)
    assert caplog.records == []


def test_what_is_no_kernel_is_noticed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "text.so"
    path.write_text("no library")
    choice = choose(path)
    assert (choice.hashing.name, choice.label) == ("python", "defect")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_kernel_of_another_interface_is_not_called(folder: Path) -> None:
    if not has_compiler():
        return
    for name, source in {
        "none": "int other(void) { return 1; }",
        "newer": "int hash_kernel_interface(void) { return 2; } int hash_kernel_leaves, "
        "hash_kernel_tree; int hash_kernel_has(int level) { return !level; }",
    }.items():
        code, path = folder / f"{name}.c", folder / f"{name}.so"
        code.write_text(source)
        subprocess.run([*compiler(), "-shared", "-fPIC", "-o", path, code], check=True)
        with pytest.raises(KernelDefect):
            load(path)


def test_one_wrong_byte_is_noticed_and_python_takes_over(folder: Path) -> None:
    """As a person sees it: on stderr, in ``version`` and in ``doctor``; nothing stops."""
    if not has_compiler():
        return
    package = folder / "copy" / "exchange"
    shutil.copytree(Path(exchange.__file__).parent, package, ignore=shutil.ignore_patterns("*.so"))
    library = package / "seal/crypto/libhashkernel.so"
    compile_kernel(compiler(), ROOT, library, "-O1", "-DHASH_KERNEL_WRONG_BYTE")
    result = run(package, "version")
    assert "hashing in Python, the compiled kernel is not used: wrong answer" in result.stdout
    assert f"the compiled kernel {library} is not used" in result.stderr
    assert result.returncode == 0
    checks = json.loads(run(package, "doctor", "--json").stdout)["checks"]
    (hashing,) = [check for check in checks if check["name"] == "hashing"]
    assert hashing["grade"] == "warn"
    assert str(library) in hashing["hint"]["en"]
    library.unlink()
    result = run(package, "version")
    assert "hashing in Python: no compiled kernel here" in result.stdout
    assert result.stderr == ""


def run(package: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exchange", *command],
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": str(package.parent), "EXCHANGE_LANG": "en"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- the kernel as a program -----------------------------------------------------------------


def calls(level: int) -> tuple[bytes, bytes]:
    """Return calls for ``hash_kernel_driver.c``, good and bad ones, and the right answers."""
    sent, right = [], []

    def call(first: bytes, offsets: bytes, salts: bytes, *, size: int, **numbers: int) -> None:
        function, algorithm = numbers["function"], numbers["algorithm"]
        sizes = (len(first), len(offsets), len(salts), size)
        sent.append(HEADER.pack(function, level, algorithm, function, *sizes, 0))
        sent.extend((first, offsets, salts))

    for name, algorithm in ALGORITHMS.items():
        suite = SUITES[name]
        for batch in SHAPES:
            leaves = batch.leaves(suite)
            offsets = np.array(batch.offsets, np.int64).tobytes()
            records, salts = batch.records, batch.salts
            call(records, offsets, salts, size=len(leaves), function=0, algorithm=algorithm)
            right.append(b"\0" + leaves)
            if leaves and len(leaves) < 32 * 50:
                nodes = by_the_book(suite, leaves)
                call(leaves, b"", b"", size=len(nodes), function=1, algorithm=algorithm)
                right.append(b"\0" + nodes)
        for broken in BROKEN_OFFSETS:
            offsets = np.array(broken, np.int64).tobytes()
            size = 32 * max(len(broken) - 1, 0)
            call(bytes(10), offsets, b"", size=size, function=0, algorithm=algorithm)
            right.append(b"\1" + bytes(size))
        for first, size in ((31, 32), (64, 0), (64, 64), (0, 0), (96, 64)):
            call(bytes(first), b"", b"", size=size, function=1, algorithm=algorithm)
            right.append(b"\1" + bytes(size))
        for salted, size in ((16, 64), (15, 32), (48, 64), (32, 65), (32, 32)):
            offsets = np.array([0, 5, 10], np.int64).tobytes()
            call(bytes(10), offsets, bytes(salted), size=size, function=0, algorithm=algorithm)
            right.append(b"\1" + bytes(size))
    call(bytes(64), b"", b"", size=32, function=1, algorithm=2)
    right.append(b"\1" + bytes(32))
    return b"".join(sent), b"".join(right)


def driver(folder: Path, name: str, command: Sequence[str], *flags: str) -> Path:
    program = folder / name
    source = Path(__file__).with_name("hash_kernel_driver.c")
    include = f"-I{ROOT / FOLDER}"
    line: list[str | Path] = [*command, "-std=c11", *STRICT, *flags, include, "-o", program, source]
    subprocess.run(line, check=True, timeout=120)
    return program


def answers(command: Sequence[str | Path], sent: bytes) -> bytes:
    result = subprocess.run(command, input=sent, check=False, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr.decode()[-4000:]
    return result.stdout


def test_sanitizers_see_no_byte_out_of_bounds(folder: Path, hashings: list[TreeHashing]) -> None:
    if not has_compiler():
        return
    program = driver(folder, "sanitized", compiler(), *SANITIZERS)
    for level in range(len(hashings) - 1):
        sent, right = calls(level)
        assert answers([program], sent) == right
    # They do see what is wrong: the same call with buffers of one byte less than it says.
    result = subprocess.run([program, "short"], input=sent, check=False, capture_output=True)
    assert b"heap-buffer-overflow" in result.stderr


def test_the_code_for_aarch64_gives_the_same(folder: Path) -> None:
    """With NEON, in an emulator: ``apt-get install gcc-aarch64-linux-gnu qemu-user``."""
    parts = [shutil.which(name) for name in ("aarch64-linux-gnu-gcc", "qemu-aarch64")]
    if None in parts:
        warnings.warn(NotTested("not tested: the hash kernel on aarch64"), stacklevel=1)
        return
    cross, emulator = map(str, parts)
    program = driver(folder, "aarch64", [cross], "-O3", "-static")
    sent, right = calls(0)
    assert answers([emulator, program], sent) == right
