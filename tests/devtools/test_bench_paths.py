"""The floor and the row-at-a-time path over one small table."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import fastavro
import psycopg
import pytest

from exchange.catalog.avro import avro_schema
from exchange.catalog.loader import load
from exchange.devtools.bench import floor, person_table, rowpath
from exchange.errors import Misconfigured, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server

ROWS = 20_000
TABLE = "bench_paths_test"
CATALOG = Path(__file__).parents[2] / "examples" / "bench" / "catalog.yaml"


@pytest.fixture(scope="module")
def loaded(postgres: Server) -> Iterator[person_table.TableSize]:
    yield person_table.load_postgres(postgres.url, ROWS, table=TABLE)
    with psycopg.connect(postgres.url) as connection:
        connection.execute(f"DROP TABLE {TABLE}")


def test_the_floor_receives_every_row_and_keeps_none(
    postgres: Server, loaded: person_table.TableSize
) -> None:
    result = floor.run(postgres.url, table=TABLE)
    assert result.rows == loaded.rows
    assert result.size > 150 * loaded.rows
    assert result.usage.wall >= 0
    assert result.usage.peak_rss > 0


def test_the_row_path_refuses_exactly_the_dirt(
    postgres: Server, loaded: person_table.TableSize
) -> None:
    signed: list[bytes] = []

    def sign(data: bytes) -> bytes:
        signed.append(data)
        return bytes(70)

    resource = load(CATALOG).resources[person_table.RESOURCE]
    result = rowpath.run(
        postgres.url,
        schema=avro_schema(resource),
        sign=sign,
        today=date(2026, 11, 23),
        table=TABLE,
    )
    assert result.rows == ROWS
    assert result.rejected == sum(loaded.dirty.values())
    assert result.accepted == ROWS - result.rejected
    assert sum(result.reasons.values()) == result.rejected
    assert result.batches == len(signed) == 3
    assert result.size == sum(map(len, signed)) + 3 * 70
    records = [record for data in signed for record in fastavro.reader(io.BytesIO(data))]
    assert len(records) == result.accepted
    assert records[0]["record_no"] == "DXAL000000000001"  # type: ignore[index, call-overload]


def test_the_row_path_stops_at_its_limit(postgres: Server, loaded: person_table.TableSize) -> None:
    resource = load(CATALOG).resources[person_table.RESOURCE]
    result = rowpath.run(
        postgres.url,
        schema=avro_schema(resource),
        sign=lambda data: data[:1],
        today=date(2026, 11, 23),
        table=TABLE,
        limit=100,
    )
    assert (result.rows, result.batches) == (100, 1)
    assert loaded.rows > result.rows


def test_a_missing_table_and_a_missing_server_are_told_apart(postgres: Server) -> None:
    with pytest.raises(Misconfigured):
        floor.run(postgres.url, table="no_such_table")
    with pytest.raises(Transient):
        floor.run("postgresql://nobody@127.0.0.1:1/none")
