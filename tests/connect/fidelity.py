"""Values that readers like to change, and one record of all of them in each kind of source."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import openpyxl
import psycopg
import pymysql
import sqlalchemy as sa

from tests.support.web_service import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.web_service import Asked, Behaviour

TABLE = "fidelity"
_EXCEL_DIGITS = 15
"""A number of a spreadsheet is a float: what has more digits is written as text."""
BEIJING = timezone(timedelta(hours=8))


@dataclass(frozen=True)
class Kind:
    """What a value is, as the catalog and the databases type it."""

    field: str
    postgres: str
    mariadb: str
    sqlite: str


KINDS = {
    "text": Kind("text(100)", "text", "VARCHAR(100)", "TEXT"),
    "integer": Kind("integer", "bigint", "BIGINT", "INTEGER"),
    "decimal": Kind("decimal(30,10)", "numeric(30,10)", "DECIMAL(30,10)", "TEXT"),
    "date": Kind("date", "date", "DATE", "TEXT"),
    "datetime": Kind("datetime", "timestamptz", "DATETIME(3)", "TEXT"),
    "double": Kind("double", "double precision", "DOUBLE", "REAL"),
    "boolean": Kind("boolean", "boolean", "BOOLEAN", "INTEGER"),
}

VALUES: tuple[tuple[str, str], ...] = (
    *(
        ("text", text)
        for text in (
            *("001234", "110101199003078515", "1E5", "0x1F", "-0", "1,234.50", "12.50", "+86"),
            *("NULL", "null", "NA", "N/A", "nan", "None", "true", "是", "2026-01-02", "1-2"),
            *(
                "00:00:00",
                "  两端空格  ",
                "\u3000全角空格\u3000",
                "张三",
                "𠮷野家",
                "䶮",
                "e\u0301",
            ),
            *("a,b", 'say "hi"', "a\nb", "O'Brien", "a\\b", "=1+1", "'x", "100%_", '{"a": 1}'),
            *("￥１２", "👨\u200d👩\u200d👧", "-", "#N/A"),
        )
    ),
    *(("integer", text) for text in ("9007199254740993", "-999999999999999999", "0")),
    *(("decimal", text) for text in ("0.1", "-0.01", "12345678901234567890.0123456789")),
    *(("date", text) for text in ("1900-02-28", "2024-02-29", "9999-12-31")),
    *(
        ("datetime", text)
        for text in ("1988-07-01 12:00:00", "1969-12-31 23:59:59", "2026-01-01 00:00:00.123")
    ),
    *(("double", text) for text in ("0.1", "1e-300", "123456789.125")),
    *(("boolean", text) for text in ("true", "false")),
)
NAMES = tuple(f"f{number:02}" for number in range(1, len(VALUES) + 1))
CATALOG = (
    'version: "1"\n'
    "area: {code: 232700, name: 大兴安岭地区}\n"
    "departments:\n"
    "  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}\n"
    "resources:\n"
    "  fidelity:\n"
    "    code: 307001/1\n    title: 保真\n    department: data\n    share: 1\n    cycle: daily\n"
    "    sensitivity: S1\n    key: [no]\n    fields:\n      - no: 来源 text(20)!\n"
    + "".join(
        f"      - {name}: 值 {KINDS[kind].field}\n"
        for name, (kind, _) in zip(NAMES, VALUES, strict=True)
    )
)


def same(kind: str, text: str, value: Any) -> bool:  # noqa: PLR0911 - one for each kind
    """Tell whether what came out is the value that went in, in whatever type of Python."""
    try:
        if kind == "text":
            return isinstance(value, str) and value == text
        if kind == "boolean":
            return str(value).lower() in ({"true", "1"} if text == "true" else {"false", "0"})
        if kind == "date":
            return str(value)[:10] == text and str(value)[10:] in {"", " 00:00:00", "T00:00:00"}
        if kind == "datetime":
            return _instant(value) == _instant(text)
        if kind == "double":
            return not isinstance(value, bool) and float(value) == float(text)
        exact = Decimal(repr(value) if isinstance(value, float) else str(value))
        return exact == Decimal(text)
    except (ValueError, TypeError, InvalidOperation):
        return False


def _instant(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=BEIJING)).astimezone(UTC)


def write_csv(path: Path, no: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["no", *NAMES])
        writer.writerow([no, *(text for _, text in VALUES)])


def write_xlsx(path: Path, no: str) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["no", *NAMES])
    sheet.cell(2, 1, no)
    for column, (kind, text) in enumerate(VALUES, start=2):
        cell = sheet.cell(2, column)
        value: Any = text
        digits = len(text.strip("-").replace(".", ""))
        if (kind in {"integer", "decimal"} and digits <= _EXCEL_DIGITS) or kind == "double":
            value = float(text)
        elif kind == "boolean":
            value = text == "true"
        elif kind == "date":
            value = date.fromisoformat(text)
        cell.value = value
        if kind == "text":
            cell.value, cell.data_type = text, "s"
    book.save(path)


def write_sqlite(path: Path, no: str) -> None:
    columns = ", ".join(
        f"{name} {KINDS[kind].sqlite}" for name, (kind, _) in zip(NAMES, VALUES, strict=True)
    )
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE {TABLE} (no TEXT PRIMARY KEY, {columns})")
        marks = ", ".join("?" * len(VALUES))
        values = [text if k != "boolean" else int(text == "true") for k, text in VALUES]
        database.execute(f"INSERT INTO {TABLE} VALUES (?, {marks})", (no, *values))


def write_postgres(url: str, no: str) -> None:
    columns = ", ".join(
        f"{name} {KINDS[kind].postgres}" for name, (kind, _) in zip(NAMES, VALUES, strict=True)
    )
    marks = ", ".join(f"%s::{KINDS[kind].postgres}" for kind, _ in VALUES)
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("SET TimeZone = 'Etc/GMT-8'")
        database.execute(f"DROP TABLE IF EXISTS {TABLE}")
        database.execute(f"CREATE TABLE {TABLE} (no text PRIMARY KEY, {columns})")
        database.execute(
            f"INSERT INTO {TABLE} VALUES (%s, {marks})", (no, *(text for _, text in VALUES))
        )


def write_mariadb(address: str, no: str) -> None:
    url = sa.make_url(address)
    columns = ", ".join(
        f"{name} {KINDS[kind].mariadb}" for name, (kind, _) in zip(NAMES, VALUES, strict=True)
    )
    marks = ", ".join(["%s"] * len(VALUES))
    values = [text if k != "boolean" else int(text == "true") for k, text in VALUES]
    with closing(
        pymysql.connect(
            host=url.host,
            port=url.port or 0,
            user=url.username,
            password=str(url.password),
            database=url.database,
            charset="utf8mb4",
            autocommit=True,
        )
    ) as database:
        cursor = database.cursor()
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        cursor.execute(
            f"CREATE TABLE {TABLE} (no VARCHAR(20) PRIMARY KEY, {columns}) CHARACTER SET utf8mb4"
        )
        cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, {marks})", (no, *values))


def document(no: str) -> bytes:
    """Write the record as JSON: numbers as numbers, with all their digits."""
    plain = {"integer", "decimal", "double", "boolean"}
    parts = [f'"no": "{no}"'] + [
        f'"{name}": {text if kind in plain else json.dumps(text)}'
        for name, (kind, text) in zip(NAMES, VALUES, strict=True)
    ]
    return ("[{" + ", ".join(parts) + "}]").encode()


def web_service(no: str) -> Behaviour:
    def behaviour(_asked: Asked) -> Answer:
        return Answer(document(no), headers={"content-type": "application/json"})

    return behaviour
