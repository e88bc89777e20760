"""The demo's sources: as departments have them, the same each time, dirty as they say.

Validation, which knows nothing of the generator, must refuse exactly the planted rows.
"""

from __future__ import annotations

import io
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from python_calamine import CalamineWorkbook

from exchange.catalog.loader import load
from exchange.devtools.demo import data
from exchange.devtools.demo.dirt import Dirt
from exchange.devtools.demo.sources import DIVISIONS, DemoSources, write_sources
from exchange.errors import Misconfigured
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.validator import compile_resource

if TYPE_CHECKING:
    from exchange.catalog.model import Catalog

ROOT = Path(__file__).parents[2]
REAL = ROOT / "examples" / "divisions-heilongjiang.csv"
TODAY = date(2026, 11, 23)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load(ROOT / "catalog.yaml")


@pytest.fixture(scope="module")
def sources(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> DemoSources:
    folder = tmp_path_factory.mktemp("demo")
    return write_sources(folder, catalog=catalog, divisions=REAL, scale=0.1)


@pytest.mark.parametrize("name", sorted(data.GENERATORS))
@pytest.mark.parametrize(("rows", "seed"), [(3_000, data.SEED), (635, 1), (100, 2)])
def test_validation_refuses_the_planted_rows_and_no_other(
    catalog: Catalog, name: str, rows: int, seed: int
) -> None:
    records = data.generate(catalog, name, rows, seed=seed)
    validator = compile_resource(catalog.resources[name], catalog.tables)
    checked = validator.check(records.frame, today=TODAY, claimed=ClaimedKeys())
    refused = np.zeros(rows, bool)
    refused[checked.rejected_rows] = True
    odd = records.frame.with_columns(dirt=records.dirt, refused=pl.Series(refused)).filter(
        pl.col("dirt").is_not_null() != pl.col("refused")
    )
    assert odd.is_empty(), (odd.to_dicts()[:3], checked.counts)


@pytest.mark.parametrize("name", sorted(data.GENERATORS))
def test_about_one_row_in_a_hundred_is_dirty_in_many_ways(catalog: Catalog, name: str) -> None:
    records = data.generate(catalog, name, 10_000)
    assert 0.008 < sum(records.planted.values()) / 10_000 < 0.012
    assert len(records.planted) >= 7
    assert all(count > 0 for count in records.planted.values())


def test_the_same_seed_makes_the_same_records(catalog: Catalog) -> None:
    for name in data.GENERATORS:
        first, again, other = (
            data.generate(catalog, name, 200, seed=seed).frame for seed in (1, 1, 2)
        )
        assert first.equals(again)
        assert not first.equals(other)


def test_every_kind_of_dirt_occurs(sources: DemoSources) -> None:
    planted: Counter[str] = Counter()
    for source in sources.by_resource.values():
        planted.update(source.planted)
    assert set(planted) == set(Dirt)
    assert sources.dirty == planted.total()
    assert sources.rows == 2_000 + 500 + 100 + 300 + 1_843


def test_the_database_has_a_key_and_times_with_ties(sources: DemoSources) -> None:
    source = sources.by_resource["credit_license"]
    with closing(sqlite3.connect(source.path)) as database:
        count, keys, times = database.execute(
            f"SELECT count(*), count(DISTINCT id), count(DISTINCT updated_at) FROM {source.table}"
        ).fetchone()
        kinds = {row[1]: row[2] for row in database.execute(f"PRAGMA table_info({source.table})")}
        row = database.execute(
            f"SELECT xk_jdrq, updated_at FROM {source.table} WHERE id = 1"
        ).fetchone()
    assert count == keys == source.rows
    assert 1 < times < count / 10
    assert (kinds["id"], kinds["xk_jdrq"], kinds["updated_at"]) == ("INTEGER", "DATE", "DATETIME")
    assert date.fromisoformat(row[0]) < TODAY
    assert datetime.fromisoformat(row[1])


def test_the_penalties_are_gbk_files_with_every_row_once(sources: DemoSources) -> None:
    source = sources.by_resource["credit_penalty"]
    files = sorted(source.path.iterdir())
    frames = []
    for file in files:
        content = file.read_bytes()
        with pytest.raises(UnicodeDecodeError):
            content.decode("utf-8")
        frames.append(pl.read_csv(content.decode("gbk").encode(), infer_schema=False))
        assert content.endswith(b"\r\n")
    assert len(files) == 2
    assert pl.concat(frames).height == source.rows


def test_the_workbook_has_a_title_a_header_below_and_a_blank_row(
    sources: DemoSources, catalog: Catalog
) -> None:
    source = sources.by_resource["eseal_registry"]
    (file,) = source.path.iterdir()
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(file.read_bytes())).get_sheet_by_index(0)
    rows = sheet.to_python(skip_empty_area=False)
    assert str(rows[0][0]).startswith("大兴安岭地区电子印章台账")
    assert rows[1] == [field.name for field in catalog.resources["eseal_registry"].fields]
    blank = [number for number, row in enumerate(rows) if not any(row)]
    assert len(blank) <= 1
    assert len(rows) == source.rows + 2 + len(blank)
    assert isinstance(rows[2][rows[1].index("created_at")], datetime)


def test_the_divisions_are_the_real_ones(sources: DemoSources, catalog: Catalog) -> None:
    source = sources.by_resource[DIVISIONS]
    (file,) = source.path.iterdir()
    assert file.read_bytes() == REAL.read_bytes()
    frame = pl.read_csv(file, infer_schema=False)
    assert (source.rows, source.dirty) == (frame.height, 0)
    validator = compile_resource(catalog.resources[DIVISIONS], catalog.tables)
    assert validator.check(frame, today=TODAY, claimed=ClaimedKeys()).rejected.is_empty()


def test_the_same_arguments_write_the_same_bytes(
    sources: DemoSources, catalog: Catalog, tmp_path: Path
) -> None:
    again = write_sources(tmp_path, catalog=catalog, divisions=REAL, scale=0.1)
    for name, source in sources.by_resource.items():
        other = again.by_resource[name].path
        pairs = (
            zip(sorted(source.path.iterdir()), sorted(other.iterdir()), strict=True)
            if source.path.is_dir()
            else [(source.path, other)]
        )
        for path, twin in pairs:
            assert path.name == twin.name
            assert path.read_bytes() == twin.read_bytes()


def test_a_folder_that_cannot_be_written_is_told(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match="cannot write"):
        write_sources(tmp_path / "file", catalog=catalog, divisions=REAL)
