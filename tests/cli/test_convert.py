"""Copies of a sealed batch that other programs read; costs two seconds."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import openpyxl
import polars as pl
import pytest

from exchange.cli.convert import OutputFormat
from exchange.errors import Integrity
from exchange.evidence.convert import FORMATS, SUFFIXES, convert
from exchange.seal.batch.build import open_batch
from tests.cli.conftest import Run
from tests.seal.samples import frame, rows, sealed

COUNT = 12
DATA = sealed(COUNT).data


def read(target: str, data: bytes) -> list[dict[str, Any]]:
    """Read a copy with a program of its own format; every value as the reader gives it."""
    if target == "avro-deflate":
        assert pl.read_avro(io.BytesIO(data)).height == COUNT, "a reader without zstandard opens it"
        return [record for record in fastavro.reader(io.BytesIO(data)) if isinstance(record, dict)]
    if target == "parquet":
        return pl.read_parquet(data).to_dicts()
    if target == "csv":
        return pl.read_csv(data, infer_schema=False).to_dicts()
    sheet = openpyxl.load_workbook(io.BytesIO(data)).worksheets[0]
    names, *lines = sheet.iter_rows(values_only=True)
    return [dict(zip(map(str, names), line, strict=True)) for line in lines]


def test_the_command_offers_every_format() -> None:
    assert list(OutputFormat) == list(FORMATS) == list(SUFFIXES)


@pytest.mark.parametrize("target", ["avro-deflate", "parquet"])
def test_typed_formats_keep_every_value(target: str) -> None:
    copy = read(target, convert(DATA, target, reveal=True))
    assert copy == [{"_row": n, **row} for n, row in enumerate(rows(COUNT), start=1)]


@pytest.mark.parametrize("target", ["csv", "xlsx"])
def test_text_formats_keep_every_value_as_text(target: str) -> None:
    copy = read(target, convert(DATA, target, reveal=True))
    for n, (line, row) in enumerate(zip(copy, rows(COUNT), strict=True), start=1):
        assert line["_row"] == str(n)
        assert line["order_no"] == row["order_no"]
        assert line["name"] == row["name"]
        assert line["amount"] == str(row["amount"])
        assert line["due"] == (None if row["due"] is None else row["due"].isoformat())
        assert line["called_at"] == row["called_at"].isoformat(timespec="milliseconds")
        assert line["lng"] == (None if row["lng"] is None else repr(row["lng"]))


@pytest.mark.parametrize("target", FORMATS)
def test_values_are_hidden_unless_asked_for(target: str) -> None:
    copy = read(target, convert(DATA, target))
    for line, row in zip(copy, rows(COUNT), strict=True):
        assert line["cd_operation"] == row["cd_operation"]
        assert line["order_no"] == "W**"
        assert line["name"] == (None if row["name"] is None else "加**")
        assert {line["amount"], line["called_at"], line["secret"]} == {"***"}
        assert [line[name] is None for name in row] == [value is None for value in row.values()]


def test_records_of_another_root_are_not_copied() -> None:
    batch = open_batch(DATA)
    other = batch.container.statement.replace(batch.statement.root.encode(), b"0" * 64)
    restated = replace(batch.container, statement=other).to_bytes()
    with pytest.raises(Integrity):
        convert(restated, "csv")


def test_the_command_writes_beside_the_file_and_hides(tmp_path: Path, run: Run) -> None:
    batch = tmp_path / "orders.avro"
    batch.write_bytes(DATA)
    assert run("convert", batch, "--to", "csv").code == 0
    assert "加**" in (tmp_path / "orders.csv").read_text("utf-8-sig")
    done = run("convert", batch, "--to", "parquet", "--out", tmp_path / "x.parquet", "--reveal")
    assert done.code == 0
    assert pl.read_parquet(tmp_path / "x.parquet").drop("_row").equals(frame(COUNT))
    assert run("convert", tmp_path / "orders.csv", "--to", "csv").code == Integrity.exit_code
