"""A web service through a whole node: a pull killed between pages goes on, typed and once."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro

from exchange.log import sealed_topic
from exchange.run.runner import Runner
from tests.pipeline.place import EAGER, Place, entries
from tests.support import web_service
from tests.support.web_service import serving

CATALOG = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
resources:
  cases:
    code: 307001/1
    title: 办件
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [id]
    fields:
      - {id: 编号 integer!, name: 名 text(50), fee: "费 decimal(20,4)", open: 是否公开 boolean}
"""
PAGE = 8_200
"""More than a frame: each page is durable by itself."""


def test_a_killed_pull_goes_on_with_the_next_page(tmp_path: Path) -> None:
    records: list[Any] = [
        {"id": i, "name": f"名{i}", "fee": i / 4, "open": i % 2 == 0} for i in range(2 * PAGE + 5)
    ]
    with serving(web_service.pages(records, largest=PAGE)) as service:
        options = (
            f'url: "{service.url}", paging: page, page_size: {PAGE}, '
            "records: data.list, total: data.total"
        )
        line = f"\n  cases: {{resource: cases, connector: rest, with: {{{options}}}}}"
        place = Place.make(tmp_path / "node", CATALOG, line)
        with place.node() as node:
            pulling = node.pull_stage("cases").run()
            assert next(pulling) == PAGE
            pulling.close()  # killed behind a page
        asked = [request.query["page"] for request in service.asked]
        with place.node() as node:
            outcome = Runner(node, policy=EAGER, stages=("pull", "seal")).once()
            values = [entry.value for entry in entries(node.log, sealed_topic("cases"))]
        assert outcome.errors == {}
        assert asked[0] == "1"
        again = [request.query["page"] for request in service.asked[len(asked) :]]
        assert again == ["2", "3"], "the first page was durable, the second was not"
    rows: list[Any] = [row for value in values for row in fastavro.reader(io.BytesIO(value))]
    assert Counter(row["id"] for row in rows) == Counter(range(len(records)))
    row = next(row for row in rows if row["id"] == 7)
    assert (row["name"], str(row["fee"]), row["open"]) == ("名7", "1.7500", False)
