"""Nodes for tests: made, run once, fed, and met by a province that misbehaves."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exchange.cascade.profiles import RESOURCE_HEADER
from exchange.node.recovery import plan_recovery, recover
from exchange.run.outcome import RunOutcome
from exchange.run.runner import Runner
from exchange.seal.eseal.signature import Sealer
from tests.pipeline.place import (
    EAGER,
    Place,
    Record,
    catalog,
    now,
    source,
    write_table,
)
from tests.receipt.seals import make_party
from tests.receiver.faults import Fault, FaultyProvince

ROOT = Path(__file__).parents[2]


def table_source(name: str, rows: int = 100) -> str:
    options = f'url: "sqlite:///{name}.db", table: cases, cursor_column: seq, batch_rows: {rows}'
    return source("sql", name, options)


def make(folder: Path, sources: dict[str, list[Record]], **of_catalog: object) -> Place:
    """Make a node with one incremental table for each resource."""
    place = Place.make(
        folder,
        catalog(*sources, **of_catalog),  # type: ignore[arg-type]
        "".join(map(table_source, sources)),
    )
    for name, rows in sources.items():
        write_table(place.folder / f"{name}.db", rows)
    place.sources = dict(sources)
    return place


def run(place: Place, **options: object) -> RunOutcome:
    with place.node(**options) as node:
        return Runner(node, policy=EAGER).once()


def rebuild(place: Place, *parts: str, **options: object) -> None:
    """Rebuild the parts that are lost or older: these and no others."""
    with place.node(**options) as node:
        plan = plan_recovery(node)
        assert plan.parts == parts
        recover(node, plan, by="wang")


def add(place: Place, name: str, rows: list[Record]) -> None:
    write_table(place.folder / f"{name}.db", rows)
    place.sources[name] += rows


@functools.cache
def _stranger() -> Sealer:
    return make_party("stranger", now=datetime.now(UTC)).sealer


class _Picky:
    """Spoils the answers about one resource only."""

    def __init__(self, faulty: FaultyProvince, resource: str) -> None:
        self.faulty = faulty
        self.resource = resource.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        about = headers.get(RESOURCE_HEADER.encode(), b"") == self.resource
        await (self.faulty if about else self.faulty.app)(scope, receive, send)


@contextlib.contextmanager
def faulty(place: Place, fault: Fault, *, only: str = "") -> Iterator[FaultyProvince]:
    items: list[FaultyProvince] = []

    def wrap(app: Any, sealer: Sealer) -> Any:
        items.append(FaultyProvince(app, sealer, _stranger(), fault=fault, seconds=0.8, clock=now))
        return _Picky(items[0], only) if only else items[0]

    with place.receiver(wrap):
        yield items[0]


def command(place: Place, *arguments: str) -> dict[str, int]:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "exchange", *arguments, "--json"),
            *("--config", place.folder / "exchange.yaml"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    document: dict[str, int] = json.loads(result.stdout)
    return document
