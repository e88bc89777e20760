"""The folder of the evidence log is a view of its topic: lost, behind, ahead, doubled, another."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import ExchangeError, Integrity
from exchange.evidence.entry import EvidenceEntry
from exchange.evidence.log import EvidenceLog, LogReader
from exchange.log import CURSORS, EVIDENCE, Message
from exchange.pipeline.evidence import EvidenceStage, log_identity
from exchange.run.outcome import Where
from exchange.run.runner import STAGES, Runner
from tests.pipeline.place import EAGER, Place, audit, records
from tests.support.nodes import add, make

ROWS = 300
FOLDER = "data/evidence"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path / "node", {"cases": records(ROWS), "firms": records(ROWS)})


def run(place: Place, *stages: str) -> dict[Where, ExchangeError]:
    with place.node() as node:
        return Runner(node, policy=EAGER, stages=stages or STAGES).once().errors


def state(place: Place) -> tuple[int, bytes]:
    log = LogReader.at(place.folder / FOLDER)
    return log.size, log.root


def stage(stack: ExitStack, place: Place, folder: str = FOLDER) -> EvidenceStage:
    node = stack.enter_context(place.node())
    opened = EvidenceStage.open(
        node.context,
        place.folder / folder,
        node.origin,
        sealer=node.seals.of_evidence,
        resources=node.topics.resources(),
        ask=node.upstream.witness,
    )
    return stack.enter_context(closing(opened))


def drain(stage: EvidenceStage) -> None:
    while stage.step() is not None:
        pass


def stranger(number: int = 1) -> bytes:
    return EvidenceEntry(
        type="statement",
        resource="cases",
        lane=0,
        batch_no=f"{number:013}",
        digest=f"sm3:{'0' * 64}",
    ).to_bytes()


def test_a_lost_folder_is_made_again_and_the_province_goes_on_with_it(place: Place) -> None:
    with place.receiver():
        assert run(place) == {}
        before = state(place)
        add(place, "cases", records(100, first=ROWS + 1))
        assert run(place) == {}
        after = state(place)
        assert after[0] > before[0] > 0
        shutil.rmtree(place.folder / FOLDER)
        add(place, "firms", records(100, first=ROWS + 1))
        assert run(place) == {}
        assert LogReader.at(place.folder / FOLDER).root_of(after[0]) == after[1]
        audit(place)


def test_a_folder_from_a_backup_catches_up(place: Place, tmp_path: Path) -> None:
    with place.receiver():
        assert run(place) == {}
        shutil.copytree(place.folder / FOLDER, tmp_path / "backup")
        add(place, "cases", records(100, first=ROWS + 1))
        assert run(place) == {}
        after = state(place)
        shutil.rmtree(place.folder / FOLDER)
        shutil.move(tmp_path / "backup", place.folder / FOLDER)
        assert run(place, "evidence") == {}
        assert state(place) == after
        audit(place)


def test_what_only_the_folder_has_goes_back_to_the_topic(place: Place) -> None:
    """The node's log is an older backup than the folder."""
    with place.receiver():
        assert run(place) == {}
    with EvidenceLog.open(
        place.folder / FOLDER, origin=LogReader.at(place.folder / FOLDER).origin
    ) as log:
        log.append([stranger(number) for number in range(1, 101)])
        ahead = log.size, log.root
    with ExitStack() as stack:
        drain(stage(stack, place))
        again = stage(stack, place, "other")
        drain(again)
        assert (again.log.size, again.log.root) == ahead == state(place)


def test_two_machines_keep_the_same_log(place: Place) -> None:
    """Each takes a share of the work, both write everything, and whoever is first shows it."""
    with place.receiver(), ExitStack() as stack:
        assert run(place, "pull", "seal", "cascade") == {}
        first_stage, second_stage = stage(stack, place, "one"), stage(stack, place, "two")
        assert None not in [first_stage.step(), second_stage.step()], (
            "one worked while the other did"
        )
        drain(first_stage)
        seen = first_stage.witness()
        assert seen is not None
        assert seen.checkpoint.head.size == first_stage.log.size > second_stage.log.size > 0
        assert second_stage.witness() is None, (
            "the province has seen more than this machine had shown"
        )
        assert (first_stage.log.size, first_stage.log.root) == (
            second_stage.log.size,
            second_stage.log.root,
        )


def test_a_replaced_folder_is_not_continued(place: Place) -> None:
    with place.receiver():
        assert run(place) == {}
    origin = LogReader.at(place.folder / FOLDER).origin
    shutil.rmtree(place.folder / FOLDER)
    with EvidenceLog.open(place.folder / FOLDER, origin=origin) as log:
        log.append([stranger()])
        kept = log.size, log.root
    with ExitStack() as stack, pytest.raises(Integrity, match="entry 0"):
        stage(stack, place)
    assert state(place) == kept, "nothing is changed"


def test_what_a_stranger_puts_into_the_topic_stops_nothing(place: Place) -> None:
    with place.receiver():
        assert run(place) == {}
        before = state(place)
        with place.node() as node, node.log.transaction("stranger") as tx:
            tx.append(Message(EVIDENCE, b""))
            tx.append(Message(EVIDENCE, b"\xff\x00"))
            tx.append(Message(EVIDENCE, stranger() + b"\n"))
            tx.append(Message(EVIDENCE, b"\n".join(map(stranger, range(5_000)))))
        assert run(place) == {}
        assert state(place) == before
        audit(place)


def kept(place: Place, kind: str) -> list[dict[str, Any]]:
    log = LogReader.at(place.folder / FOLDER)
    entries = [json.loads(log.entry(index)) for index in range(log.size)]
    return [entry for entry in entries if entry["type"] == kind]


def test_what_is_not_sealed_has_leaves(place: Place) -> None:
    """Refused records, states of pulls and the audit trail: digests, and nothing of a record."""
    with place.receiver():
        assert run(place) == {}
        assert [leaf["rows"] for leaf in kept(place, "pull")] == [ROWS, ROWS]
        assert kept(place, "messages")
        assert kept(place, "audit") == []
        with place.node() as node:
            lines = [node.store.audit.append("wang", "test", name, "名称") for name in "ab"]
        assert run(place) == {}
        assert [(leaf["number"], leaf["trail"]) for leaf in kept(place, "audit")] == [
            (2, lines[0].digest)
        ]
        audit(place)
    log = LogReader.at(place.folder / FOLDER)
    whole = b"".join(log.entry(index) for index in range(log.size))
    assert b"r7" not in whole, "the id of a refused record"
    assert b"wang" not in whole, "who did it"


def test_a_state_of_a_stranger_has_no_leaf(place: Place) -> None:
    with place.receiver():
        assert run(place) == {}
        before = state(place)
        with place.node() as node, node.log.transaction("stranger") as tx:
            tx.append(Message(CURSORS, b"{}", "pull/UPPER"))
            tx.append(Message(CURSORS, b"{}", "other"))
        assert run(place, "evidence") == {}
        assert state(place) == before
        audit(place)


def test_the_log_has_one_identity(place: Place) -> None:
    with place.node() as one, place.node() as other:
        first = log_identity(one.context)
        assert re.fullmatch("[0-9a-f]{32}", first)
        assert log_identity(other.context) == first
