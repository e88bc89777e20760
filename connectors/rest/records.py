"""Records of a page as rows of text, and rows as a frame."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import polars as pl

from exchange.connect import ExchangeError, Misconfigured, Rejected, Text
from exchange.connectors.rest.json_path import MISSING, Path, parse_path, walk

DEFECT = "_defect"
_RESERVED = ("_row", DEFECT)
Row = list[str | None]
_HASH_BYTES = 12


def row_hash(row: Sequence[str | None]) -> str:
    """Return a short digest of a row: 96 bits, as text."""
    digest = blake2b(digest_size=_HASH_BYTES)
    for value in row:
        data = b"" if value is None else value.encode("utf-8", "surrogatepass")
        digest.update(b"-" if value is None else b"%d:" % len(data))
        digest.update(data)
    return b64encode(digest.digest()).decode()


@dataclass
class Shape:
    """Which columns a pull has: those named, else the fields of the first record.

    ``optional``: a field that a record lacks is empty; else the record's page is refused.
    """

    columns: Mapping[str, str]
    optional: bool
    paths: dict[str, Path] = field(default_factory=dict)
    """Empty until the first record was seen."""

    def __post_init__(self) -> None:
        """Read the paths; raises Misconfigured."""
        if self.optional and not self.columns:
            raise Misconfigured(
                Text("absent: null 需要 columns", "absent: null needs columns"),
                hint=Text("请用 columns 列出要取的字段", "name the fields in columns"),
            )
        for name, path in self.columns.items():
            self._add(name, parse_path(path))

    def _add(self, name: str, path: Path) -> None:
        if name in _RESERVED:
            raise Misconfigured(
                Text(f"字段名 {name} 是保留名", f"the name {name} is reserved"),
                hint=Text("请用 columns 给它另一个名称", "give the field another name in columns"),
            )
        self.paths[name] = path

    def rows(self, records: Sequence[Any], place: Text) -> list[Row]:
        """Return the records' values in the order of the columns.

        Raises Rejected or Misconfigured, with the place, for a record of another shape.
        """
        return [self._row(record, number, place) for number, record in enumerate(records, start=1)]

    def _row(self, record: Any, number: int, place: Text) -> Row:
        where = Text(f"{place.zh} 第 {number} 条", f"{place.en}, record {number}")
        if not self.columns:
            self._check_fields(record, where)
        return [self._value(record, name, path, where) for name, path in self.paths.items()]

    def _check_fields(self, record: Any, where: Text) -> None:
        if not isinstance(record, dict):
            raise _not_an_object(where)
        if not self.paths:
            for name in record:
                self._add(name, (name,))
        if record.keys() != self.paths.keys():
            more = sorted(record.keys() - self.paths.keys())
            less = sorted(self.paths.keys() - record.keys())
            raise _other_fields(where, more, less)

    def _value(self, record: Any, name: str, path: Path, where: Text) -> str | None:
        value = walk(record, path)
        if isinstance(value, str):
            return str(value)
        if value is None:
            return None
        if value is True or value is False:
            return "true" if value else "false"
        if value is MISSING:
            if self.optional and isinstance(record, dict | list):
                return None
            raise _absent(where, self.columns.get(name, name))
        raise _nested(where, self.columns.get(name, name))

    def frame(self, rows: Sequence[Row], defects: Sequence[str | None]) -> pl.DataFrame:
        """Make a frame: every column is text. What is no text at all is a defect."""
        names = list(self.paths)
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        marks = list(defects)
        series = [
            pl.Series(name, _clean(name, list(values), marks), dtype=pl.String)
            for name, values in zip(names, columns, strict=True)
        ]
        return pl.DataFrame([*series, pl.Series(DEFECT, marks, dtype=pl.String)])


def _clean(name: str, values: list[str | None], marks: list[str | None]) -> list[str | None]:
    """Replace halves of surrogate pairs, which no text can hold; the record has a defect."""
    try:
        "".join(value for value in values if value is not None).encode()
    except UnicodeEncodeError:
        for number, value in enumerate(values):
            if value is not None and any("\ud800" <= char <= "\udfff" for char in value):
                values[number] = value.encode("ascii", "backslashreplace").decode()
                marks[number] = marks[number] or f"{name}: half of a surrogate pair, no character"
    return values


_SHAPE = Text(
    "请用 columns 写明要取的字段；对方不发空字段时设置 absent: null",
    "name the fields in columns; where the service leaves out empty ones, set absent: null",
)


def _other_fields(where: Text, more: list[str], less: list[str]) -> Rejected:
    parts_zh = [f"多出 {', '.join(more[:5])}"] * bool(more)
    parts_zh += [f"缺少 {', '.join(less[:5])}"] * bool(less)
    parts_en = [f"{', '.join(more[:5])} more"] * bool(more)
    parts_en += [f"{', '.join(less[:5])} less"] * bool(less)
    return Rejected(
        Text(
            f"{where.zh} 的字段与前面不同：{'；'.join(parts_zh)}",
            f"{where.en} has other fields than those before: {'; '.join(parts_en)}",
        ),
        hint=_SHAPE,
    )


def _absent(where: Text, path: str) -> ExchangeError:
    return Misconfigured(
        Text(f"{where.zh} 没有 {path}", f"{where.en} has no {path}"),
        hint=_SHAPE,
    )


def _nested(where: Text, path: str) -> ExchangeError:
    return Misconfigured(
        Text(
            f"{where.zh} 的 {path} 是对象或数组，不是一个值",
            f"{where.en}: {path} is an object or a list, not a value",
        ),
        hint=Text(
            "请在 columns 写到值的路径，如 city: address.city",
            "write the path to the value in columns, such as city: address.city",
        ),
    )


def _not_an_object(where: Text) -> ExchangeError:
    return Misconfigured(
        Text(f"{where.zh} 不是对象", f"{where.en} is no object"),
        hint=Text(
            "请检查 records；记录是数组时用 columns 写 [0] 这样的路径",
            "check records; where a record is a list, write paths such as [0] in columns",
        ),
    )
