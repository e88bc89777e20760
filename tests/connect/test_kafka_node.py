"""A topic of changes through a whole node: every version is sealed once, in order, after kills."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro

from exchange.devtools.servers.kafka import Cluster
from exchange.log import sealed_topic
from exchange.run.runner import Runner
from tests.pipeline.place import EAGER, Place, entries
from tests.support.topics import make_topic, write

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
      - {id: 编号 integer!, name: 名 text(50)}
"""


def event(op: str, number: int, name: str) -> tuple[str, str]:
    row = {"id": number, "name": name}
    sides = {"before": row if op == "d" else None, "after": None if op == "d" else row}
    return f'{{"id":{number}}}', json.dumps({"op": op, **sides}, ensure_ascii=False)


EVENTS = [
    ("c", 1, "甲"),
    ("c", 2, "乙"),
    ("u", 1, "甲二"),
    ("u", 1, "甲三"),
    ("d", 2, "乙"),
    ("c", 2, "乙又"),
    ("d", 1, "甲三"),
]
SEALED = [({"c": "I", "u": "U", "d": "D"}[op], number, name) for op, number, name in EVENTS]


def test_every_version_of_a_record_is_sealed(tmp_path: Path, kafka_broker: Cluster) -> None:
    topic = "versions-of-cases"
    make_topic(kafka_broker.bootstrap, topic)
    write(kafka_broker.bootstrap, topic, [event(*parts) for parts in EVENTS])
    options = f'bootstrap: ["{kafka_broker.bootstrap[0]}"], topic: {topic}, envelope: debezium'
    line = f"\n  cases: {{resource: cases, connector: kafka, with: {{{options}}}}}"
    place = Place.make(tmp_path / "node", CATALOG, line)
    for _ in range(2):  # killed behind the first frame, and behind the next one
        with place.node() as node:
            pulling = node.pull_stage("cases").run()
            next(pulling)
            pulling.close()
    with place.node() as node:
        outcome = Runner(node, policy=EAGER, stages=("pull", "seal")).once()
        batches = [entry.value for entry in entries(node.log, sealed_topic("cases"))]
        pulls = {entry.headers["pull"] for entry in entries(node.log, sealed_topic("cases"))}
    assert outcome.errors == {}
    rows: list[Any] = [row for value in batches for row in fastavro.reader(io.BytesIO(value))]
    assert [(row["cd_operation"], row["id"], row["name"]) for row in rows] == SEALED
    assert len(batches) == len(pulls) == 4, "a record comes again three times"
