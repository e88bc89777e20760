"""Stamps while the authority answers, and how long it may be away; on loopback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from exchange.errors import ExchangeError, Integrity, Misconfigured, Transient
from exchange.seal.crypto.suites import SM2_SM3
from exchange.seal.pki.stamping import REST, Stamping, read_patience
from exchange.seal.pki.timestamp import TsaPatience, read_token
from exchange.seal.pki.trust import Trust
from exchange.text import Text
from tests.seal.parties import NOW, parties
from tests.seal.tsa import Stamper, refusal, tsa

MINUTE = timedelta(minutes=1)
ALLOWED = 10 * MINUTE


@dataclass
class World:
    """An authority that may be away, a clock, and what was said."""

    path: Path
    now: datetime = NOW
    away: bool = False
    asked: int = 0
    said: list[str] = field(default_factory=list)
    wrong: Callable[[bytes], bytes] | None = None
    ahead: timedelta = timedelta()

    def post(self, request: bytes) -> bytes:
        self.asked += 1
        if self.away:
            raise Transient(Text("没有应答", "nobody answers"), hint=Text("", ""))
        if self.wrong is not None:
            return self.wrong(request)
        return Stamper(tsa(SM2_SM3), lambda: self.now + self.ahead).answer(request)

    def start(self) -> Stamping:
        """Start anew, as after a restart."""
        return Stamping(
            post=self.post,
            trust=Trust([parties(SM2_SM3).root.certificate]),
            entropy=lambda size: b"\x07" * size,
            clock=lambda: self.now,
            path=self.path,
            allowed=ALLOWED,
            say=lambda text: self.said.append(text.en),
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state" / "tsa.json")


def test_every_value_is_stamped_while_it_answers(world: World) -> None:
    stamping = world.start()
    for value in (b"one", b"two"):
        token = stamping.stamp(value, SM2_SM3)
        assert token is not None
        assert read_token(token).imprint == SM2_SM3.digest(value)
    assert not world.path.exists()
    assert world.said == []


def test_within_the_patience_it_goes_without_and_says_so_once(world: World) -> None:
    stamping = world.start()
    world.away = True
    for _ in range(9):
        assert stamping.stamp(b"x", SM2_SM3) is None
        world.now += MINUTE
    assert len(world.said) == 1
    assert "sealing goes on without stamps" in world.said[0]
    world.away = False
    assert stamping.stamp(b"x", SM2_SM3)
    assert world.said[1:] == ["the TSA answers again"]
    assert read_patience(world.path) == TsaPatience()


def test_beyond_it_nothing_is_sealed_until_it_answers(world: World) -> None:
    """Restarts and a clock that is set back give nothing back."""
    world.away = True
    for _ in range(5):
        assert world.start().stamp(b"x", SM2_SM3) is None
        world.now += 2 * MINUTE
    world.now -= timedelta(days=1)
    assert world.start().stamp(b"x", SM2_SM3) is None  # nine of ten minutes, and nothing added
    world.now += 3 * MINUTE
    with pytest.raises(Transient, match="hold") as caught:
        world.start().stamp(b"x", SM2_SM3)
    assert "nothing is lost" in caught.value.hint.en
    asked = world.asked
    with pytest.raises(Transient, match="hold"):
        world.start().stamp(b"x", SM2_SM3)
    with pytest.raises(Transient, match="hold"):
        world.start().ready()
    assert world.asked == asked
    world.now += REST
    world.away = False
    world.start().ready()
    assert world.start().stamp(b"x", SM2_SM3)


def test_while_it_is_away_it_is_not_asked_for_every_batch(world: World) -> None:
    stamping = world.start()
    world.away = True
    for _ in range(120):
        stamping.stamp(b"x", SM2_SM3)
        world.now += timedelta(seconds=1)
    assert world.asked == 4


@pytest.mark.parametrize(
    ("wrong", "ahead", "kind", "says"),
    [
        (lambda _: b"<html>", timedelta(), Integrity, "malformed"),
        (lambda _: refusal("rejection", "bad_alg"), timedelta(), Misconfigured, "bad_alg"),
        (None, 6 * MINUTE, Misconfigured, "this clock"),
        (None, -6 * MINUTE, Misconfigured, "this clock"),
    ],
)
def test_a_wrong_answer_is_no_reason_to_go_without(
    world: World,
    wrong: Callable[[bytes], bytes] | None,
    ahead: timedelta,
    kind: type[ExchangeError],
    says: str,
) -> None:
    world.wrong, world.ahead = wrong, ahead
    with pytest.raises(kind, match=says):
        world.start().stamp(b"x", SM2_SM3)
    assert not world.path.exists()


def test_a_broken_state_gives_no_new_patience(world: World) -> None:
    world.path.parent.mkdir()
    world.path.write_bytes(b"\xff{")
    with pytest.raises(Integrity):
        world.start().stamp(b"x", SM2_SM3)


def test_a_state_that_cannot_be_kept_holds(world: World) -> None:
    world.path.parent.write_text("a file where the folder should be")
    world.away = True
    with pytest.raises(Transient, match="cannot use"):
        world.start().stamp(b"x", SM2_SM3)
