"""A foreign verifier, ofdrw (Java): takes every seal signature of the demo, refuses changed ones.

It judges what GB/T 38540-2020 says of a signature: the digest of the content, and the signer's
signature. Costs 5 s and the demo that tests/independent shares.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

from exchange.devtools.servers.maven import artifacts
from exchange.seal.batch import jcs
from exchange.seal.batch.container import Container
from exchange.seal.eseal.structures import read_signature
from tests.independent.judges import Demo

WANTED = ("org.ofdrw:ofdrw-sign:2.3.3", "org.slf4j:slf4j-nop:1.7.36")
PROGRAM = Path(__file__).with_name("Ofdrw.java")

Pair = tuple[bytes, bytes]
"""Content, and the signature over it (DER)."""


def judged(pairs: Sequence[Pair]) -> list[str]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gov-exchange"
    libraries = artifacts(cache, "ofdrw-2.3.3", WANTED)
    java = shutil.which("java")
    assert libraries is not None, "tools/servers.py installs maven"
    assert java is not None, "tools/servers.py installs a JDK"
    lines = (b" ".join(map(b64encode, pair)) + b"\n" for pair in pairs)
    command = [java, "-XX:TieredStopAtLevel=1", "-cp", f"{libraries}/*", str(PROGRAM)]
    done = subprocess.run(
        command, input=b"".join(lines), capture_output=True, check=True, timeout=120
    )
    return done.stdout.decode().split()


def signed(demo: Demo) -> Iterator[Pair]:
    for batch in map(Container.from_bytes, demo.batches):
        yield batch.statement, batch.seal
    for receipt in map(json.loads, demo.receipts):
        yield jcs.encode(receipt["receipt"]), b64decode(receipt["seal"])


def changed(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Change one bit of each: of the content, of what is signed, or of the signature value."""
    for number, (content, signature) in enumerate(pairs):
        parts = read_signature(signature)
        if number % 3 == 0:
            yield flipped(content, number * 37 % len(content)), signature
        elif number % 3 == 1:
            place = signature.index(parts.property_info.encode())
            yield content, flipped(signature, place + 3)
        else:
            yield content, flipped(signature, signature.index(parts.value) + len(parts.value) - 9)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_it_takes_every_seal_of_the_demo_and_refuses_as_many_changed_ones(demo: Demo) -> None:
    pairs = list(signed(demo))
    assert len(pairs) == len(demo.batches) + len(demo.receipts) > 6
    spoilt = list(changed(pairs))
    assert judged([*pairs, *spoilt]) == ["taken"] * len(pairs) + ["refused"] * len(spoilt)
