"""A short run of chaos, and its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from tests.chaos.audit import Findings, TopicContents, compare_pulls
from tests.chaos.plan import What, plan
from tests.chaos.play import play
from tests.chaos.stage import java_hash
from tests.pipeline.place import now, records


def test_a_short_run_loses_and_doubles_nothing(tell: Callable[[str], None]) -> None:
    result = play(212, 4)  # all of its kinds of events begin in time, on a slow machine too
    tell("\n".join(result.lines()))
    assert result.ok
    assert result.findings.receipts == result.findings.batches > 0
    for what in (What.KILL_WORKER, What.KILL_BROKER, What.PAUSE_WORKER, What.CUT_WORKER):
        assert result.counts[what], what


def test_a_seed_has_one_plan_and_twenty_have_everything() -> None:
    assert plan(7, 25) == plan(7, 25) != plan(8, 25)
    events = [
        event.what for seed in range(1, 21) for track in plan(seed, 25) for event in track.events
    ]
    assert set(events) == {*What}
    assert [track.name for track in plan(7, 25)] == [track.name for track in plan(8, 25)]


def test_findings_are_counted() -> None:
    findings = Findings()
    assert findings.clean
    findings.compare("row", Counter("aab"), Counter("abbc"))
    assert findings.lost == ["row a"]
    assert findings.duplicated == ["row b"]
    assert findings.unverifiable == ["row c"]
    assert not findings.clean


def test_a_pull_that_left_nothing_behind_is_lost() -> None:
    rows = [(row, now() - timedelta(minutes=1)) for row in records(3, first=1)]
    pulls = {f"{now():%Y%m%dT%H%M%S}-{number}": number < 3 for number in range(4)}
    topic_contents, findings = TopicContents(), Findings()
    for pull in list(pulls)[1:3]:
        topic_contents.of(pull)[0].update(
            row.id for row, _ in rows[: 3 if pull.endswith("1") else 2]
        )
    compare_pulls("firms", rows, pulls, topic_contents, findings)
    ordered_items = sorted(item.split("-")[1] for item in findings.lost)
    assert ordered_items == ["0: r1", "0: r2", "0: r3", "2: r3"]
    assert findings.rows == 9, "the last pull is not done"


def test_who_coordinates_is_told_as_java_does() -> None:
    assert java_hash("hello") == 99_162_322
    assert java_hash("polygenelubricants") == 0, "the sign is dropped"
