"""The bench's table: the same for the same seed, as dirty as it says, bounded in memory."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import psycopg

from exchange.catalog.identifiers import is_resident_id, is_uscc
from exchange.catalog.loader import load
from exchange.devtools.bench import person_table
from exchange.devtools.bench.person_table import RowFault
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.validator import compile_resource

if TYPE_CHECKING:
    from tests.support.servers import Server

ROWS = 120_000
CATALOG = Path(__file__).parents[2] / "examples" / "bench" / "catalog.yaml"


def whole(rows: int, seed: int = person_table.SEED) -> tuple[pl.DataFrame, pl.Series]:
    frames, dirt = zip(*person_table.chunks(rows, seed=seed), strict=True)
    return pl.concat(frames), pl.concat(dirt)


def test_a_shorter_table_is_a_prefix_of_a_longer_one() -> None:
    longer, _ = whole(ROWS)
    shorter, _ = whole(60_001)
    assert shorter.equals(longer.head(60_001))
    assert not shorter.equals(whole(60_001, seed=1)[0])


def test_chunks_are_bounded() -> None:
    assert [frame.height for frame, _ in person_table.chunks(ROWS)] == [50_000, 50_000, 20_000]
    assert list(person_table.chunks(0)) == []


def test_one_percent_is_dirty_and_the_rest_is_clean() -> None:
    frame, dirt = whole(ROWS)
    assert 0.009 < dirt.count() / ROWS < 0.011
    assert set(dirt.drop_nulls()) == set(RowFault)
    clean = frame.filter(dirt.is_null())
    assert clean["record_no"].is_unique().all()
    assert clean["resident_id"].map_elements(is_resident_id, pl.Boolean).all()
    assert clean["uscc"].drop_nulls().map_elements(is_uscc, pl.Boolean).all()
    assert clean["is_legal"].equals(clean["uscc"].is_not_null())
    assert clean["company"].drop_nulls().str.len_chars().max() <= 100  # type: ignore[operator]
    assert clean["mobile"].str.contains("^1[3-9][0-9]{9}$").all()
    assert set(clean["status"]) == set(person_table.STATUSES)
    assert (clean["valid_from"] <= clean["valid_until"]).all()
    assert (clean["amount"] >= 0).all()
    assert clean["birth_date"].max() < date(2026, 6, 30)  # type: ignore[operator]
    assert (clean["resident_id"].str.slice(6, 8) == clean["birth_date"].dt.strftime("%Y%m%d")).all()
    odd = clean["resident_id"].str.slice(16, 1).cast(pl.Int8) % 2
    assert (odd == clean["sex"].cast(pl.Int8) % 2).all()


def test_each_kind_of_dirt_is_what_its_name_says() -> None:
    frame, dirt = whole(ROWS)
    bad = {kind: frame.filter(dirt == kind) for kind in RowFault}
    assert not bad[RowFault.USCC_CHECK]["uscc"].map_elements(is_uscc, pl.Boolean).any()
    assert (
        not bad[RowFault.RESIDENT_CHECK]["resident_id"]
        .map_elements(is_resident_id, pl.Boolean)
        .any()
    )
    assert bad[RowFault.NAME_MISSING]["name"].is_null().all()
    late = bad[RowFault.ENDS_BEFORE_START]
    assert (late["valid_from"] > late["valid_until"]).all()
    assert not bad[RowFault.STATUS_UNKNOWN]["status"].is_in(person_table.STATUSES).any()
    assert not bad[RowFault.MOBILE_FULL_WIDTH]["mobile"].str.contains("[0-9]").any()
    assert bad[RowFault.COMPANY_TOO_LONG]["company"].str.len_chars().min() > 100  # type: ignore[operator]
    assert (bad[RowFault.AMOUNT_NEGATIVE]["amount"] < 0).all()


def test_a_key_that_occurs_twice_is_first_seen_clean_in_an_earlier_place() -> None:
    frame, dirt = whole(ROWS)
    keys = frame.with_row_index("place").with_columns(dirt=dirt)
    twice = keys.filter(pl.col("dirt") == RowFault.KEY_TWICE)
    pairs = twice.join(keys.filter(pl.col("dirt").is_null()), on="record_no")
    assert pairs.height == twice.height
    assert (pairs["place_right"] < pairs["place"]).all()
    far = pairs["place"] > person_table.FAR
    assert (pairs.filter(far)["place"] - pairs.filter(far)["place_right"] == person_table.FAR).all()


def test_a_row_is_about_as_wide_as_the_record_it_imitates() -> None:
    frame, _ = whole(50_000)
    assert 130 < frame.estimated_size() / frame.height < 250


def test_csv_and_postgres_hold_the_same_table(tmp_path: Path, postgres: Server) -> None:
    rows = 60_000
    file = person_table.write_csv(tmp_path / "bench.csv", rows)
    loaded = person_table.load_postgres(postgres.url, rows, table="bench_table_test")
    frame, dirt = whole(rows)
    assert loaded.rows == file.rows == rows
    assert loaded.dirty == file.dirty == Counter(dirt.drop_nulls())
    assert file.size == (tmp_path / "bench.csv").stat().st_size > loaded.size
    read = pl.read_csv(tmp_path / "bench.csv", infer_schema=False)
    assert read.columns == list(person_table.COLUMNS)
    assert read["record_no"].equals(frame["record_no"])
    assert read["updated_at"][0] == "2025-01-01 08:00:05"
    with psycopg.connect(postgres.url) as connection:
        stored = connection.execute("SELECT * FROM bench_table_test").fetchall()
        assert stored == frame.rows()
        connection.execute("DROP TABLE bench_table_test")


def test_validation_refuses_exactly_the_dirty_rows(tmp_path: Path) -> None:
    catalog = load(CATALOG)
    resource = catalog.resources[person_table.RESOURCE]
    assert [field.name for field in resource.fields] == list(person_table.COLUMNS)
    validator = compile_resource(resource, catalog.tables)
    person_table.write_csv(tmp_path / "bench.csv", ROWS)
    typed, dirt = whole(ROWS)
    text = pl.read_csv(tmp_path / "bench.csv", infer_schema=False)
    for frame in (typed, text):
        checked = validator.check(frame, today=date(2026, 11, 23), claimed=ClaimedKeys())
        assert checked.rejected_rows.tolist() == dirt.is_not_null().arg_true().to_list()
