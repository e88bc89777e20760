"""A node whose seals are stamped by an authority on loopback, which goes away and comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.errors import Transient
from exchange.log import sealed_topic
from exchange.run.outcome import RunOutcome, Where
from exchange.run.runner import STAGES, Runner
from exchange.seal.batch.container import Container
from exchange.seal.batch.verify import verify_batch
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.suites import ECDSA_P256_SHA256
from exchange.seal.eseal.structures import read_signature
from exchange.seal.eseal.test_authority import STAMPING, issue, make_authority
from exchange.seal.pki.stamping import read_patience
from tests.pipeline.place import EAGER, Place, audit, catalog, entries, records, source, write_table
from tests.seal.tsa import Stamper, Tsa, serving

PATIENCE = timedelta(minutes=10)


class Clock:
    """This machine's clock, set ahead."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    options = 'url: "sqlite:///cases.db", table: cases, cursor_column: seq, batch_rows: 40'
    result = Place.make(tmp_path / "node", catalog("cases"), source("sql", "cases", options))
    result.sources["cases"] = []
    return result


@pytest.fixture
def authority(place: Place, clock: Clock) -> Iterator[Tsa]:
    """Serve a TSA under a root of its own, which node and province trust."""
    now = datetime.now(UTC)
    root = make_authority("测试时间戳根", ECDSA_P256_SHA256, now=now, entropy=os.urandom)
    usage = frozenset({"digital_signature"})
    tsa = issue(root, "测试时间戳", now=now, entropy=os.urandom, usage=usage, purposes=STAMPING)
    (place.folder / "tsa.pem").write_bytes(to_pem("CERTIFICATE", root.certificate))
    with serving(Stamper(tsa, clock)) as running:
        settings = place.folder / "exchange.yaml"
        text = settings.read_text().replace(
            "trust: [seals/root.pem]", "trust: [seals/root.pem, tsa.pem]"
        )
        text += f"tsa: {{url: '{running.url}', trust: [tsa.pem], patience: 10m}}\n"
        settings.write_text(text)
        province = place.folder / "province" / "exchange.yaml"
        province.write_text(
            province.read_text().replace("[../seals/root.pem]", "[../seals/root.pem, ../tsa.pem]")
        )
        yield running


def run(place: Place, clock: Clock, count: int, stages: tuple[str, ...]) -> RunOutcome:
    """Give the source more rows and run once, as a new process would."""
    more = records(count, first=len(place.sources["cases"]) + 1, dirty=False)
    place.sources["cases"].extend(more)
    if more:
        write_table(place.folder / "cases.db", more)
    with place.node(clock=clock) as node:
        return Runner(node, policy=EAGER, stages=stages).once()


def stamps(place: Place) -> list[bool]:
    """Tell of every batch, which must verify, whether it is stamped."""
    with place.node() as node:
        trust = node.trust(place.settings.trust)
        items = []
        for entry in entries(node.log, sealed_topic("cases")):
            assert verify_batch(entry.value, trust=trust).ok
            seal = read_signature(Container.from_bytes(entry.value).seal)
            items.append(seal.stamp is not None)
        return items


def test_batches_are_stamped_and_the_province_takes_them(
    place: Place, authority: Tsa, clock: Clock
) -> None:
    with place.receiver():
        outcome = run(place, clock, 100, STAGES)
    assert outcome.errors == {}
    assert set(stamps(place)) == {True}
    assert len(authority.asked) == len(stamps(place))
    assert audit(place).sealed == 100


def test_the_authority_goes_away_and_comes_back(
    place: Place, authority: Tsa, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each run is a process of its own: a restart gives no new patience."""
    stages = ("pull", "seal")
    answering = authority.answer

    def silent(_: bytes) -> bytes:
        raise ConnectionError

    assert run(place, clock, 40, stages).errors == {}
    authority.answer = silent
    for _ in range(2):
        assert run(place, clock, 40, stages).errors == {}
        clock.ahead += PATIENCE / 2
    assert "sealing goes on without stamps" in caplog.text
    clock.ahead += timedelta(seconds=1)
    result = run(place, clock, 40, stages)
    assert isinstance(result.errors[Where("seal", "cases")], Transient)
    assert "nothing is lost" in result.errors[Where("seal", "cases")].hint.en
    with place.node() as node:
        assert read_patience(node.seals.patience_file).spent >= PATIENCE
    assert stamps(place) == [True, False, False]
    authority.answer = answering
    clock.ahead += timedelta(minutes=1)
    assert run(place, clock, 0, stages).errors == {}
    assert stamps(place) == [True, False, False, True]
    clock.ahead = timedelta()
    with place.node() as node:
        assert read_patience(node.seals.patience_file).since is None
