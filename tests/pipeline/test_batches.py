"""Few batches, not many tiny ones: what comes together is sealed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exchange.log import quarantine_topic, sealed_topic
from exchange.pipeline.messages import SealedEntry
from exchange.pipeline.replay import replay
from exchange.run.runner import Runner
from tests.pipeline.place import EAGER, Place, catalog, entries, records, source, write_table
from tests.support import web_service
from tests.support.web_service import serving

STAGES = ("pull", "seal")


def batches(place: Place) -> list[int]:
    """Return the records of each sealed batch."""
    with place.node() as node:
        sealed = map(SealedEntry.of, entries(node.log, sealed_topic("cases")))
        return [batch.rows for batch in sealed if batch is not None]


def test_five_hundred_records_in_pages_of_fifty_are_one_batch(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"id": f"r{n}", "no": f"n{n}", "name": f"名{n}", "issued": "2026-01-02"} for n in range(500)
    ]
    with serving(web_service.pages(rows, largest=50)) as service:
        options = (
            f'url: "{service.url}", paging: page, page_size: 50, '
            "records: data.list, total: data.total"
        )
        place = Place.make(tmp_path / "node", catalog("cases"), source("rest", "cases", options))
        with place.node() as node:
            assert Runner(node, policy=EAGER, stages=STAGES).once().errors == {}
        assert len(service.asked) == 10
    assert batches(place) == [500]


def test_records_that_were_refused_in_fifty_messages_come_back_in_one_batch(
    tmp_path: Path,
) -> None:
    options = 'url: "sqlite:///cases.db", table: cases, cursor_column: seq, batch_rows: 10'
    place = Place.make(
        tmp_path / "node", catalog("cases", width=3), source("sql", "cases", options)
    )
    write_table(place.folder / "cases.db", records(505, first=1_000, dirty=False))
    with place.node() as node:
        assert Runner(node, policy=EAGER, stages=STAGES).once().quarantined == 505
        refused = list(entries(node.log, quarantine_topic("cases")))
        assert len(refused) > 50
    assert batches(place) == []
    (place.folder / "catalog.yaml").write_text(catalog("cases"), encoding="utf-8")
    with place.node() as node:
        result = replay(node.context, node.store, node.context.resource("cases"), by="test")
        assert (result.rows, result.messages) == (505, 1)
        assert Runner(node, policy=EAGER, stages=("seal",)).once().accepted == 505
    assert batches(place) == [505]
