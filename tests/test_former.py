"""What the former version wrote: it verifies, and a node of its making goes on."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.cli.main import main
from exchange.evidence.audit import audit as audit_log
from exchange.log import raw_topic, sealed_topic
from exchange.run.runner import Runner
from exchange.seal.crypto.der import from_pem
from exchange.seal.pki.trust import Trust
from tests.pipeline.place import EAGER, Place, Record, audit, entries

FORMER = Path(__file__).parent / "vectors" / "former"
STOPPED = datetime(2026, 11, 30, 20, 30, tzinfo=UTC)
"""When the node was stopped; its seals are valid for five years."""
SUITES = ("ecdsa-p256-sha256", "sm2-sm3")
GIVEN = (
    ("batch.avro", "receipt.json"),
    ("batch.avro",),
    ("proof.json",),
    ("record.evidence",),
    ("checkpoint",),
)


def trust(folder: Path, name: str) -> Trust:
    return Trust(tuple(from_pem((folder / f"{name}.root.pem").read_bytes())))


def verify(folder: Path, names: tuple[str, ...]) -> int:
    roots = ["--trust", str(folder / "node.root.pem")]
    roots += ["--province", str(folder / "province.root.pem")]
    if names == ("checkpoint",):
        for path in sorted((folder / "log" / "certificates").iterdir()):
            roots += ["--chain", str(path)]
    files = [str(folder / name) for name in names]
    return main(["verify", *files, *roots, "--json"], {})


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("names", GIVEN)
def test_files_verify(
    suite: str, names: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / suite
    shutil.copytree(FORMER / suite, folder)
    assert verify(folder, names) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["ok"] for answer in answers] == [True] * len(names)
    data = bytearray((folder / names[0]).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / names[0]).write_bytes(data)
    assert verify(folder, names) == 6


@pytest.mark.parametrize("suite", SUITES)
def test_an_evidence_log_stands_every_check(suite: str, tmp_path: Path) -> None:
    folder = tmp_path / suite
    shutil.copytree(FORMER / suite, folder)
    node, province = trust(folder, "node"), trust(folder, "province")
    items = [(folder / name).read_bytes() for name in ("checkpoint", "receipt.json")]
    verification = audit_log(folder / "log", trust=node, witnesses=province, known=items)
    assert verification.ok, verification.failed
    assert verification.facts["size"] == verification.facts["witnessed"] == 16
    assert verification.facts["checkpoints"] == 2
    assert not audit_log(folder / "log", trust=province, witnesses=province).ok


def rows(path: Path) -> list[Record]:
    with closing(sqlite3.connect(path)) as database:
        return [
            Record(*row)
            for row in database.execute("SELECT id, no, name, issued FROM cases ORDER BY seq")
        ]


def test_a_node_that_was_killed_goes_on(tmp_path: Path, tell: Callable[[str], None]) -> None:
    with tarfile.open(FORMER / "node-with-test-keys.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "node"
    # One section has another name now, and callers say what they may do; else both settings are
    # as they were.
    province = folder / "province" / "exchange.yaml"
    text = province.read_text(encoding="utf-8").replace("gateway:", "receiver:", 1)
    scope = ", ".join(f"{key}: any" for key in ("departments", "resources", "seals", "roots"))
    assert text.count("{rid:") == 1
    province.write_text(text.replace("{rid:", f"{{{scope}, origins: any, rid:"), encoding="utf-8")
    sources = {name: rows(folder / f"{name}.db") for name in ("cases", "firms")}
    place = Place(folder, sources, frozenset({"firms"}))

    start, opened = STOPPED, datetime.now(UTC)

    def clock() -> datetime:
        return start + timedelta(days=1) + (datetime.now(UTC) - opened)

    def sealed() -> dict[str, bytes]:
        with place.node(clock=clock) as node:
            return {
                f"{name}/{entry.key}": entry.value
                for name in sources
                for entry in entries(node.log, sealed_topic(name))
            }

    before = sealed()
    with place.node(clock=clock) as node:
        pulled = sum(
            node.log.bounds(raw_topic("cases"), partition)[1]
            - node.log.position("seal", raw_topic("cases"), partition)
            for partition in range(2)
        )
        delivered = {f"{row.resource}/{row.batch_no}" for row in node.store.receipts.find()}
    assert pulled > 0, "rows were pulled and not sealed"
    assert before.keys() > delivered, "batches were sealed and not delivered"

    with place.receiver(clock=clock):
        for _ in range(5):
            with place.node(clock=clock) as node:
                outcome = Runner(node, policy=EAGER).once()
            assert outcome.error() is None, outcome.errors
            if outcome.waiting == 0:
                break
    counts = audit(place)
    after = sealed()
    assert before.items() < after.items()
    assert counts.receipts == counts.batches == len(after)
    tell(
        f"a node of the former version went on: {len(delivered)} batches delivered before,"
        f" {len(before) - len(delivered)} sealed and {pulled} messages pulled on the way;"
        f" {len(after)} batches and receipts afterwards"
    )
