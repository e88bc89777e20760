"""A sealed batch in the formats of other programs: a copy without the seal, for reading.

Owner of the copies' layout: ``_row`` (from 1, what ``exchange prove --row`` takes) and the
fields of the batch in their order. Hidden copies have text alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from exchange.errors import Rejected
from exchange.evidence.files import veil
from exchange.seal.batch.build import open_batch
from exchange.seal.batch.prove import tree_of
from exchange.seal.batch.schema import Column, Kind
from exchange.text import Text

if TYPE_CHECKING:
    import polars as pl

    from exchange.seal.batch.build import Batch

ROW: Final = "_row"
_TIME: Final = "%Y-%m-%dT%H:%M:%S%.3f%:z"
MAX_CELL: Final = 32_767
"""Characters of a spreadsheet's cell (ECMA-376 and Excel's own limit)."""


def convert(data: bytes, target: str, *, reveal: bool = False) -> bytes:
    """Write a sealed batch in the format ``target``, one of :data:`FORMATS`.

    Without ``reveal`` the values are hidden as ``exchange verify`` hides them, and every column
    is text. The records must have the root of the statement; the seal is not verified here.
    Raises Integrity when the file is broken, Rejected when the format cannot hold a value.
    """
    from exchange.seal.batch.columns import decode

    batch = open_batch(data)
    tree_of(batch)
    frame = decode(batch.records, batch.offsets, batch.schema)
    if not reveal:
        frame = _hide(frame)
    name = ROW
    while name in frame.columns:
        name = f"_{name}"
    return FORMATS[target](frame.with_row_index(name, offset=1), batch)


def _hide(frame: pl.DataFrame) -> pl.DataFrame:
    """Hide the values; all columns are text then."""
    import polars as pl

    return pl.DataFrame(
        {
            series.name: pl.Series([veil(series.name, value) for value in series], dtype=pl.String)
            for series in frame.get_columns()
        }
    )


def _avro(frame: pl.DataFrame, batch: Batch) -> bytes:
    """Write Avro with the codec that every reader of Avro must have (Avro 1.12, "deflate")."""
    import fastavro
    import polars as pl

    columns = {column.name: column for column in batch.schema.columns}
    row, *names = frame.columns
    schema = {
        "type": "record",
        "name": batch.statement.resource,
        "namespace": "exchange.copy",
        "fields": [{"name": row, "type": "long"}]
        + [
            {"name": name, "type": _avro_type(columns[name], frame[name].dtype == pl.String)}
            for name in names
        ],
    }
    stream = io.BytesIO()
    fastavro.writer(
        stream, fastavro.parse_schema(schema), frame.iter_rows(named=True), codec="deflate"
    )
    return stream.getvalue()


def _avro_type(column: Column, text: bool) -> Any:  # noqa: FBT001 - private, one call
    plain: Mapping[Kind, Any] = {
        Kind.DECIMAL: {
            "type": "bytes",
            "logicalType": "decimal",
            "precision": column.precision,
            "scale": column.scale,
        },
        Kind.DATE: {"type": "int", "logicalType": "date"},
        Kind.TIMESTAMP: {"type": "long", "logicalType": "timestamp-millis"},
        Kind.OPERATION: "string",
    }
    declared = "string" if text else plain.get(column.kind, column.kind.value)
    return ["null", declared] if column.nullable else declared


def _parquet(frame: pl.DataFrame, _batch: Batch) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def _csv(frame: pl.DataFrame, _batch: Batch) -> bytes:
    """Write UTF-8 with its mark, by which spreadsheet programs know it; times in ISO 8601."""
    stream = io.BytesIO()
    frame.write_csv(stream, include_bom=True, datetime_format=_TIME)
    return stream.getvalue()


def _xlsx(frame: pl.DataFrame, _batch: Batch) -> bytes:
    """Write one sheet; every cell is text: codes keep their digits, and none is a formula."""
    import polars.selectors as cs
    import xlsxwriter

    from exchange.validate.source_frame import as_text

    stream = io.BytesIO()
    frame = frame.with_columns(cs.datetime().dt.strftime(_TIME))
    columns = [as_text(series).to_list() for series in frame.get_columns()]
    with xlsxwriter.Workbook(stream, {"constant_memory": True}) as book:
        sheet = book.add_worksheet("records")
        text = book.add_format({"num_format": "@"})
        bold = book.add_format({"bold": True})
        sheet.freeze_panes(1, 1)
        sheet.set_column(0, len(columns) - 1, 18, text)
        for place, name in enumerate(frame.columns):
            sheet.write_string(0, place, name, bold)
        for line, values in enumerate(zip(*columns, strict=True), start=1):
            for place, value in enumerate(values):
                if value is None:
                    continue
                if len(value) > MAX_CELL:
                    raise _too_long(line, frame.columns[place], len(value))
                sheet.write_string(line, place, value, text)
    return stream.getvalue()


def _too_long(line: int, name: str, length: int) -> Rejected:
    return Rejected(
        Text(
            f"第 {line} 条的 {name} 有 {length:,} 个字符，单元格最多 {MAX_CELL:,}",
            f"{name} of record {line} has {length:,} characters, a cell holds {MAX_CELL:,}",
        ),
        hint=Text("改用 --to csv 或 parquet", "use --to csv or parquet"),
    )


FORMATS: Final[Mapping[str, Callable[[pl.DataFrame, Batch], bytes]]] = MappingProxyType(
    {"avro-deflate": _avro, "parquet": _parquet, "csv": _csv, "xlsx": _xlsx}
)
"""What :func:`convert` writes, by name."""
SUFFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {"avro-deflate": ".deflate.avro", "parquet": ".parquet", "csv": ".csv", "xlsx": ".xlsx"}
)
"""How the name of the file ends, by format."""
