"""Two implementations, one from the pages alone: they agree on what holds and on what does not."""

from __future__ import annotations

import ast
import contextlib
import functools
import gzip
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import ExchangeError
from exchange.evidence import files
from exchange.evidence.audit import audit
from exchange.evidence.log import LogReader
from exchange.evidence.package import make_package, wrap
from exchange.seal.batch import tree as merkle
from exchange.seal.batch.container import Container, compress, decompress
from exchange.seal.batch.prove import prove
from exchange.seal.crypto.der import from_pem
from exchange.seal.crypto.suites import SUITES
from exchange.seal.eseal.signature import Sealer
from exchange.seal.eseal.structures import write_signed, write_to_sign
from exchange.seal.eseal.test_authority import ISSUING, SIGNING, issue, make_authority, make_seal
from exchange.seal.pki.trust import Trust
from tests.independent import sealed_batch, verifier
from tests.seal.samples import NOW, SEED, sealed, sealers

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/vectors"
BATCHES, LOG = VECTORS / "batch", VECTORS / "evidence/log"
MODULES = (sealed_batch, verifier)
LINES = 300
"""Longest file of the second implementation; there is one for each page."""


@dataclass
class Judges:
    """Both implementations, with the same trust; ``beside`` is where a checkpoint lies."""

    roots: list[bytes]
    province: list[bytes]
    beside: Path

    def __post_init__(self) -> None:
        pool = [file.read_bytes() for file in (self.beside / "certificates").iterdir()]
        self.ours = files.Verifier(
            files.Circumstances(
                trust=Trust(self.roots),
                province=Trust(self.province),
                at=datetime.now(UTC),
                chain=tuple(pool),
            )
        )
        self.second = verifier.Verifier(self.roots, self.province)

    def ours_takes(self, data: bytes) -> bool:
        try:
            return self.ours.verify("", data).ok
        except ExchangeError:  # of no known kind
            return False

    def second_takes(self, data: bytes) -> bool:
        try:
            self.second.verify(data, self.beside)
        except Exception:  # noqa: BLE001 (that is how it refuses)
            return False
        return True

    def both_take(self, data: bytes) -> None:
        self.second.verify(data, self.beside)
        verdict = self.ours.verify("", data)
        assert verdict.ok, verdict.verification.failed

    def both_refuse(self, data: bytes) -> None:
        assert (self.ours_takes(data), self.second_takes(data)) == (False, False)


def anchors(*names: Path) -> list[bytes]:
    return [from_pem(name.read_bytes())[0] for name in names]


@functools.cache
def judges() -> Judges:
    """Give the judges of the vectors, who have met the batch of the receipt."""
    result = Judges(
        anchors(*BATCHES.glob("*.root.pem"), VECTORS / "evidence/node.root.pem"),
        anchors(VECTORS / "evidence/province.root.pem"),
        LOG,
    )
    result.both_take((BATCHES / "sm2-sm3.avro").read_bytes())
    return result


@functools.cache
def vectors() -> dict[str, bytes]:
    """Give the vectors, one of each kind; the receipt is the one inside of the package."""
    package = (VECTORS / "evidence/record.evidence").read_bytes()
    receipt = json.loads(gzip.decompress(package))["receipt"]
    assert receipt["chain"] == [], "no certificate to put back from the table"
    return {
        **{path.name: path.read_bytes() for path in BATCHES.iterdir() if path.suffix != ".pem"},
        "record.evidence": package,
        "record.receipt.json": sealed_batch.canonical(receipt),
        "checkpoint": (LOG / "checkpoint").read_bytes(),
        "checkpoints/100": (LOG / "checkpoints/100").read_bytes(),
    }


# --- the second implementation stands alone ------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_it_is_small_and_imports_nothing_of_the_project(module: Any) -> None:
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            assert all(
                alias.name.split(".")[0] not in {"exchange", "tests"} for alias in node.names
            )
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0
            assert node.module.split(".")[0] not in {"exchange", "connectors"}
            assert not node.module.startswith("tests") or node.module == "tests.independent"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_as_a_program(tmp_path: Path) -> None:
    batch, proof = BATCHES / "sm2-sm3.avro", BATCHES / "sm2-sm3.proof.json"
    command = ("tests.independent.verifier", "--root", BATCHES / "sm2-sm3.root.pem")
    result = run(*command, batch, proof)
    assert (result.returncode, result.stdout) == (0, f"verified {batch}\nverified {proof}\n")
    changed = tmp_path / "changed.avro"
    changed.write_bytes(batch.read_bytes()[:-1])
    result = run(*command, proof, changed)
    assert result.returncode == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["verified", "refused"]
    loaded = "import sys, tests.independent.verifier; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert "exchange" not in result.stdout.split()


# --- both take what is genuine -------------------------------------------------------------------


@pytest.mark.parametrize("name", vectors())
def test_both_take_the_vectors(name: str) -> None:
    judges().both_take(vectors()[name])


def test_the_log_of_the_vectors() -> None:
    judges().second.log(LOG)


def test_the_trees_of_the_vectors() -> None:
    document = json.loads((VECTORS / "merkle.json").read_text())
    for suite, roots in document["roots"].items():
        cipher = Cipher(sealed_batch.SUITES[suite][0](SEED), CTR(bytes(16))).encryptor()
        salts = [cipher.update(bytes(16)) for _ in roots]
        assert b"".join(salts).startswith(bytes.fromhex(document["salts"][suite]))
        leaves = [
            sealed_batch.h(suite, b"\0", salt, bytes([number]) * number)
            for number, salt in enumerate(salts)
        ]
        for size, root in enumerate(roots, start=1):
            assert sealed_batch.tree(suite, leaves[:size]).hex() == root


def test_the_statement_of_the_vectors() -> None:
    data = (VECTORS / "statement.json").read_bytes()
    assert sealed_batch.canonical(sealed_batch.parsed(data, sealed_batch.STATEMENT)) == data


@pytest.mark.parametrize("suite", sealed_batch.SUITES)
@pytest.mark.parametrize("path", ["seal", "seal/formats"])
def test_the_seals_of_the_vectors(path: str, suite: str) -> None:
    """All of version 4 and 5 hold; what is beyond the second implementation is refused."""
    case = json.loads((VECTORS / path / f"{suite}.json").read_text())
    content, name, root = (b64decode(case[key]) for key in ("content", "property_info", "root"))
    signatures = [key for key in case if key.startswith("signature")]
    assert signatures
    for key in signatures:
        beyond = "v1" in key or "stamped" in key
        refused = pytest.raises(ValueError, match="not understood")
        with refused if beyond else contextlib.nullcontext():
            judges().second.seal(
                case[key], content, suite, name.decode(), chain=[case["chain"]], roots=[root]
            )


@dataclass(frozen=True)
class Demo:
    """What the demo made, and packages and proofs from it."""

    judges: Judges
    log: Path
    batches: list[bytes]
    receipts: list[bytes]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    result = run("exchange", "demo", "--json", "--folder", folder, "--scale", "0.01")
    assert result.returncode == 0, result.stderr
    node = folder / "node"
    log = node / "data/evidence"
    return Demo(
        Judges(anchors(node / "seals/root.pem"), anchors(node / "province/seal/root.pem"), log),
        log,
        [path.read_bytes() for path in sorted((folder / "evidence").glob("*.avro"))],
        [path.read_bytes() for path in sorted((folder / "evidence").glob("*.receipt.json"))],
    )


def test_both_take_everything_of_the_demo(demo: Demo) -> None:
    """All that is in its log, and for each batch a proof and a package of its last record."""
    log = LogReader.at(demo.log)
    sealed = [line for line in map(log.entry, range(log.size)) if b'"version"' not in line]
    assert len(demo.batches) + len(demo.receipts) == len(sealed) > 6
    for batch in demo.batches:
        demo.judges.both_take(batch)
    for batch, receipt in zip(demo.batches, demo.receipts, strict=True):
        demo.judges.both_take(receipt)
        rows = json.loads(receipt)["receipt"]["rows_sent"]
        proof = prove(batch, row=rows)
        demo.judges.both_take(proof)
        demo.judges.both_take(make_package(log, proof=proof, receipt=receipt))


def test_both_take_the_log_of_the_demo(demo: Demo, tmp_path: Path) -> None:
    for path in (demo.log / "checkpoints").rglob("*"):
        demo.judges.both_take(path.read_bytes())
    folder = tmp_path / "log"
    shutil.copytree(demo.log, folder)
    ours = functools.partial(
        audit, folder, trust=Trust(demo.judges.roots), witnesses=Trust(demo.judges.province)
    )
    demo.judges.second.log(folder)
    assert ours().ok
    (bundle,) = (folder / "tile/entries").rglob(f"*.p/{LogReader.at(folder).size}")
    whole = bundle.read_bytes()
    for at in (0, 1, 2, len(whole) // 2, len(whole) - 1):
        bundle.write_bytes(flipped(whole, at))
        assert not ours().ok
        with pytest.raises((ValueError, LookupError)):
            demo.judges.second.log(folder)


# --- both refuse what is not ---------------------------------------------------------------------


def flipped(data: bytes, at: int, bits: int = 1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= bits
    return bytes(changed)


def inside(data: bytes) -> bytes:
    """Return what may be changed: of a package the JSON, for nobody signs its compression."""
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def outside(data: bytes, name: str) -> bytes:
    return wrap(data) if name.endswith(".evidence") else data


def parts(data: bytes) -> Iterator[tuple[int, int]]:
    """Find the parts of a file: of a batch as the page has them, JSON values, lines."""
    if data.startswith(b"{"):
        yield from (item.span(1) for item in re.finditer(rb'":("(?:[^"\\]|\\.)*"|[0-9]+)', data))
    elif data.startswith(b"Obj"):
        file = sealed_batch.decoded(data, sealed_batch.FILE)
        for key, value in file["metadata"].items():
            start = data.index(key.encode())
            end = data.index(value.encode(), start) + len(value.encode())
            yield start, start + len(key)
            yield end - len(value.encode()) - 1, end
        yield 0, 4
        yield len(data) - len(file["payload"]) - 16, len(data) - 16
        yield len(data) - 16, len(data)
        yield data.index(file["sync"]), data.index(file["sync"]) + 16
    else:
        yield from (entry.span() for entry in re.finditer(rb"[^\n]*\n", data))


@pytest.mark.parametrize("name", vectors())
def test_both_refuse_a_flipped_bit_in_each_part(name: str) -> None:
    data = inside(vectors()[name])
    items = list(parts(data))
    assert len(items) >= 6
    for start, end in items:
        for at in {start, (start + end) // 2, end - 1}:
            judges().both_refuse(outside(flipped(data, at), name))


@pytest.mark.parametrize("name", vectors())
@given(where=st.integers(0, 2**32), bits=st.integers(1, 255))
@settings(max_examples=40, derandomize=True)
def test_both_refuse_another_byte_anywhere(name: str, where: int, bits: int) -> None:
    data = inside(vectors()[name])
    judges().both_refuse(outside(flipped(data, where % len(data), bits), name))


@given(where=st.integers(0, 2**32), bits=st.integers(1, 255))
@settings(max_examples=40, derandomize=True)
def test_they_agree_on_another_byte_in_the_compression(where: int, bits: int) -> None:
    """A deflate stream has a few bits that mean nothing: what it inflates to is what counts."""
    data = vectors()["record.evidence"]
    changed = flipped(data, where % len(data), bits)
    taken = judges().ours_takes(changed)
    assert taken == judges().second_takes(changed)
    assert not taken or inside(changed) == inside(data)


@pytest.mark.parametrize("name", vectors())
def test_both_refuse_the_wrong_root(name: str) -> None:
    stranger = anchors(VECTORS / "evidence/province.root.pem")
    wrong = Judges(stranger, anchors(BATCHES / "sm2-sm3.root.pem"), LOG)
    wrong.second.statements |= judges().second.statements
    wrong.both_refuse(vectors()[name])


# --- what a department seals, and both refuse all the same ---------------------------------------

SIGNER, ROOT_OF_SIGNER = sealers()


def resealed(
    *,
    container: Container | None = None,
    text: bytes | None = None,
    sealer: Sealer = SIGNER,
    version: int = 0,
    **changes: Any,
) -> bytes:
    """Seal a batch again, with other parts, schema, seal, or statement (None: without a member).

    By hand, for the project's own code refuses to make some of these.
    """
    container = container or Container.from_bytes(sealed().data)
    text = text or container.schema
    stated = {"schema": "sm3:" + sealed_batch.h("sm3", text).hex(), **changes}
    statement = {**json.loads(container.statement), **stated}
    statement = {key: value for key, value in statement.items() if value is not None}
    content = sealed_batch.canonical(statement)
    to_sign = write_to_sign(
        sealer.eseal,
        NOW,
        sealer.suite.digest(content),
        f"urn:gds:batch:{statement['resource']}/{statement['batch_no']};canon=jcs",
        version=version or sealer.details.version,
    )
    signer = sealer.signer
    value = signer.sign(to_sign)
    seal = write_signed(to_sign, signer.certificate, sealer.suite.signature_oid, value)
    return replace(
        container, schema=text, statement=content, seal=seal, chain=sealer.chain
    ).to_bytes()


def judges_of(root: bytes) -> Judges:
    return Judges([root], [root], LOG)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"source": "", "pull": "文" * 1024, "resource_code": ""},
        {"resource": "a" * 128},
        {"accepted": 2**53 - 1, "lane": 10**10 - 1},
        {"previous": "0" * 64},
    ],
)
def test_both_take_other_statements(changes: dict[str, Any]) -> None:
    judges_of(ROOT_OF_SIGNER).both_take(resealed(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "exchange-statement-2"},
        {"suite": "ecdsa-p256-sha256"},
        {"suite": "sm2-sha256"},
        {"department": "11232700mb1234567a"},
        {"resource": "a" * 129},
        {"resource": "Orders"},
        {"batch_no": "202611230001"},
        {"schema": "sm3:" + "0" * 64},
        {"lane": "0"},
        {"lane": 10**10},
        {"accepted": 2**53},
        {"rejected": -1},
        {"rejected": True},
        {"rows": 2},
        {"inserts": 1, "updates": 2},
        {"root": "0" * 64},
        {"payload": "0" * 64},
        {"previous": "0" * 63},
        {"pulled_at": "2026-11-23T01:02:03Z"},
        {"sealed_at": "2026-11-23T01:02:03.004+00:00"},
        {"sealed_at": "2026-02-30T01:02:03.004Z"},
        {"pulled_at": "1969-12-31T23:59:59.999Z"},
        {"source": "x" * 1025},
        {"pull": None},
        {"note": "x"},
    ],
    ids=str,
)
def test_both_refuse_statements_that_are_none(changes: dict[str, Any]) -> None:
    judges_of(ROOT_OF_SIGNER).both_refuse(resealed(**changes))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"precision":14', '"precision":39'),
        ('"scale":2', '"scale":15'),
        ('"scale":2', '"scale":2,"doc":"x"'),
        ('"name":"count","type":["null","long"]', '"name":"count","type":["long","null"]'),
        ('"name":"count","type":["null","long"]', '"name":"count","type":["null","int"]'),
        ('"name":"count"', '"name":"name"'),
        ('"name":"count"', '"aliases":[],"name":"count"'),
        ('"default":null', '"default":""'),
        ('"symbols":["I","U","D"]', '"symbols":["I","D","U"]'),
        ('"namespace":"exchange"', '"namespace":"exchange","aliases":[]'),
        ('"name":"cd_operation"', '"name":"operation"'),
    ],
)
def test_both_refuse_schemas_that_are_none(old: str, new: str) -> None:
    schema = Container.from_bytes(sealed().data).schema.decode()
    assert old in schema
    changed = schema.replace(old, new, 1).encode()
    judges_of(ROOT_OF_SIGNER).both_refuse(resealed(text=changed))


def test_both_judge_chains_alike() -> None:
    (between,) = SIGNER.chain
    stranger = sealers("sm2-sm3", "another")[0].chain
    own = SIGNER.signer.certificate
    good: list[tuple[bytes, ...]] = [
        (between, own),
        (between, ROOT_OF_SIGNER),
        (ROOT_OF_SIGNER, own, between),
    ]
    bad: list[tuple[bytes, ...]] = [(), (between, between), (between, *stranger), stranger]
    for chain in good:
        judges_of(ROOT_OF_SIGNER).both_take(resealed(sealer=replace(SIGNER, chain=chain)))
    for chain in bad:
        judges_of(ROOT_OF_SIGNER).both_refuse(resealed(sealer=replace(SIGNER, chain=chain)))
    judges_of(between).both_take(resealed(sealer=replace(SIGNER, chain=())))


def test_both_judge_versions_alike() -> None:
    """A seal of version 4 may stand in a signature of version 5 (the other way round: below)."""
    for version, holds in ((4, True), (5, True), (3, False), (6, False)):
        judge = judges_of(ROOT_OF_SIGNER)
        (judge.both_take if holds else judge.both_refuse)(resealed(version=version))


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("holds", "usage", "made", "maker_made", "created"),
    [
        (True, ISSUING | {"digital_signature"}, NOW, NOW, NOW - DAY),
        (True, {"non_repudiation"}, NOW, NOW, NOW - DAY),
        (False, ISSUING, NOW, NOW, NOW - DAY),
        (False, SIGNING, NOW + 2 * DAY, NOW, NOW - DAY),
        (False, SIGNING, NOW, NOW + 2 * DAY, NOW - DAY),
        (False, SIGNING, NOW, NOW, NOW + DAY),
        (False, SIGNING, NOW, NOW, NOW - 2 * DAY),
    ],
)
@pytest.mark.parametrize(("version", "by_digest"), [(4, False), (5, False), (5, True)])
def test_both_judge_signers_and_makers_alike(  # noqa: PLR0917
    holds: bool,  # noqa: FBT001
    usage: set[str],
    made: datetime,
    maker_made: datetime,
    created: datetime,
    version: int,
    by_digest: bool,  # noqa: FBT001
) -> None:
    """Certificates are valid from a day before they were made."""
    suite = SUITES["sm2-sm3"]
    root = make_authority("root", suite, now=NOW, entropy=os.urandom)
    maker = issue(root, "maker", now=maker_made, entropy=os.urandom)
    signer = issue(root, "signer", now=made, entropy=os.urandom, usage=frozenset(usage))
    eseal = make_seal(
        maker,
        (signer.certificate,),
        name="章",
        es_id="1",
        created=created,
        valid_until=NOW + 365 * DAY,
        version=version,
        by_digest=by_digest,
    )
    sealer = Sealer(signer.signer, eseal)
    judge = judges_of(root.certificate)
    (judge.both_take if holds else judge.both_refuse)(resealed(sealer=sealer))
    if version == 5:
        judge.both_refuse(resealed(sealer=sealer, version=4))


@given(changes=st.lists(st.tuples(st.integers(0, 2**32), st.integers(1, 255)), max_size=2))
@settings(max_examples=150, derandomize=True)
def test_they_agree_on_records_of_any_bytes(changes: list[tuple[int, int]]) -> None:
    """The table of encodings against fastavro: everything is sealed as it should be."""
    container = Container.from_bytes(sealed(5).data)
    records = decompress(container.payload)
    for where, bits in changes:
        records = flipped(records, where % len(records), bits)
    suite = SUITES["sm2-sm3"]
    sizes = map(ord, container.lengths.decode())
    offsets = list(itertools.accumulate(sizes, initial=0))
    salts = merkle.salts(suite, container.salt, container.rows)
    root = merkle.root(suite, merkle.leaves(suite, records, offsets, salts))
    payload = compress(records)
    parts = replace(container, payload=payload, sync=root[:16])
    data = resealed(container=parts, root=root.hex(), payload=suite.digest(payload).hex())
    judge = judges_of(ROOT_OF_SIGNER)
    assert judge.ours_takes(data) == judge.second_takes(data)
