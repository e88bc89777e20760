"""What a database shows is what is sealed: each type and edge value, on every engine and way.

The engine's own text of a value, asked through another driver, is compared with the value that
the catalog's type makes of what the connector delivers. A difference without a reason fails. The
table of all of them is a page of the documentation, and is compared with it; EXCHANGE_WRITE=1
writes it again.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from exchange.catalog.types import parse_type
from exchange.connectors.sql import sql
from exchange.validate.convert import CHINA, convert

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from tests.support.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "database-types.md"
BEIJING = timezone(timedelta(hours=8))


@dataclass(frozen=True)
class Value:
    """A value of a type, and the catalog's type that it feeds."""

    type: str
    literal: str
    field: str = "text(200)"
    shown: str = "{}"
    """How the engine is asked for its own text, where a plain cast shows something else."""


def typed(kind: str, field: str, *literals: str, shown: str = "{}") -> list[Value]:
    return [Value(kind, literal, field, shown) for literal in literals]


POSTGRES = [
    *typed("smallint", "integer", "-32768", "32767"),
    *typed("integer", "integer", "-2147483648", "0"),
    *typed("bigint", "integer", "-9223372036854775808", "9223372036854775807"),
    *typed("bigint", "text(20)", "9007199254740993"),
    *typed("oid", "text(20)", "4294967295"),
    *typed("numeric(18,0)", "integer", "999999999999999999"),
    *typed("numeric(14,2)", "decimal(14,2)", "-0.10", "999999999999.99", "'NaN'"),
    *typed("numeric(38,10)", "text(60)", "1234567890123456789012345678.0123456789"),
    *typed("numeric", "text(200)", "1.10", "1e40", "'NaN'"),
    *typed("numeric(5,-2)", "integer", "12345"),
    *typed("real", "double", "0.1", "16777217", "3.4028235e38", "'NaN'", "'Infinity'"),
    *typed("double precision", "double", "0.1", "1e-300", "123456789.125", "'-Infinity'"),
    *typed("money", "text(20)", "'-1234.50'", "0"),
    *typed("boolean", "boolean", "true", "false"),
    *typed("bit(3)", "text(20)", "B'101'"),
    *typed("varbit", "text(20)", "B'00101'"),
    *typed("char(6)", "text(20)", "'ab'", "'张三'"),
    *typed("varchar(20)", "text(20)", "'O''Brien'", "'a\\b'", "'𠀀'"),
    *typed("text", "text(200)", "'  两端 空格  '", "'{}'", "'NULL'"),
    *typed("citext", "text(20)", "'AbC'"),
    *typed("name", "text(20)", "'pg_class'"),
    *typed('"char"', "text(20)", "'x'"),
    *typed("uuid", "text(40)", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
    *typed("bytea", "text(40)", "'\\x00ff'"),
    *typed("date", "date", "'2024-02-29'", "'0001-01-01'", "'infinity'", "'0044-03-15 BC'"),
    *typed("time", "text(20)", "'08:30'", "'24:00'", "'23:59:59.999999'"),
    *typed("timetz", "text(20)", "'08:30+09'"),
    *typed("timestamp", "datetime", "'1988-07-01 08:00'", "'1986-05-04 02:30'", "'-infinity'"),
    *typed("timestamp", "date", "'2026-11-01'", "'2026-11-01 08:00'"),
    *typed("timestamptz", "datetime", "'2026-11-01 00:00:00Z'", "'1900-01-01 00:00+08'"),
    *typed("timestamptz", "datetime", "'2026-11-01 07:59:59.999-04'", "'infinity'"),
    *typed("interval", "text(40)", "'1 mon 3 days 25:30'", "'-1 year'", "'0'"),
    *typed("inet", "text(40)", "'10.0.0.1'", "'::1/64'"),
    *typed("cidr", "text(40)", "'10.1.0.0/16'"),
    *typed("macaddr", "text(40)", "'08:00:2b:01:02:03'"),
    *typed("json", "text(40)", '\'{"b":1, "a": "甲"}\''),
    *typed("jsonb", "text(40)", '\'{"b":1, "a": "甲"}\''),
    *typed("xml", "text(40)", "'<a>甲</a>'"),
    *typed("integer[]", "text(40)", "'{1,NULL,3}'"),
    *typed("text[]", "text(40)", '\'{a,"b c",""}\''),
    *typed("int4range", "text(40)", "'[1,9]'"),
    *typed("tstzrange", "text(80)", "'[2026-11-01 00:00Z,)'"),
    *typed("point", "text(40)", "'(1.5,-2)'"),
    *typed("tsvector", "text(40)", "'a b'"),
    *typed("mood", "text(20)", "'z'"),
    *typed("pair", "text(40)", "'(1,\"a b\")'"),
    *typed("price", "decimal(9,2)", "1.50"),
]
MARIADB = [
    *typed("TINYINT", "integer", "-128"),
    *typed("TINYINT UNSIGNED", "integer", "255"),
    *typed("BOOLEAN", "boolean", "TRUE", "FALSE"),
    *typed("SMALLINT", "integer", "-32768"),
    *typed("MEDIUMINT", "integer", "8388607"),
    *typed("INT", "integer", "-2147483648"),
    *typed("INT(8) ZEROFILL", "text(20)", "42", "0"),
    *typed("INT(8) ZEROFILL", "integer", "42"),
    *typed("BIGINT", "integer", "-9223372036854775808", "9223372036854775807"),
    *typed("BIGINT UNSIGNED", "text(20)", "18446744073709551615"),
    *typed("BIGINT UNSIGNED", "integer", "18446744073709551615"),
    *typed("DECIMAL(14,2)", "decimal(14,2)", "-0.10", "999999999999.99"),
    *typed("DECIMAL(18,0)", "integer", "999999999999999999"),
    *typed("DECIMAL(60,10)", "text(80)", "12345678901234567890123456789012345678901234.5"),
    *typed("DECIMAL(6,2) UNSIGNED ZEROFILL", "text(20)", "1.5"),
    *typed("FLOAT", "double", "0.1", "16777217", "1.5e10"),
    *typed("FLOAT(7,2)", "double", "0.1"),
    *typed("DOUBLE", "double", "0.1", "1e-300", "123456789.125"),
    *typed("BIT(1)", "integer", "b'1'", shown="{} + 0"),
    *typed("BIT(64)", "text(20)", "b'{}'".format("1" * 64), shown="{} + 0"),
    *typed("CHAR(6)", "text(20)", "'ab'", "'张三'"),
    *typed("VARCHAR(20)", "text(20)", "'O''Brien'", "'𠀀'", "'  a '"),
    *typed("VARCHAR(20) CHARACTER SET gbk", "text(20)", "'张三'"),
    *typed("VARCHAR(20) CHARACTER SET latin1", "text(20)", "'é'"),
    *typed("TINYTEXT", "text(20)", "'a'"),
    *typed("LONGTEXT", "text(200)", "'甲乙'"),
    *typed("BINARY(3)", "text(20)", "x'00ff'", shown="CONCAT('\\\\x', LOWER(HEX({})))"),
    *typed("VARBINARY(9)", "text(20)", "x'00ff'", shown="CONCAT('\\\\x', LOWER(HEX({})))"),
    *typed("BLOB", "text(20)", "x'd5c5'", shown="CONCAT('\\\\x', LOWER(HEX({})))"),
    *typed("DATE", "date", "'2024-02-29'", "'0000-00-00'", "'2024-00-15'", "'9999-12-31'"),
    *typed("TIME", "text(20)", "'08:30:00'", "'25:30:00'", "'-838:59:59'"),
    *typed("TIME(3)", "text(20)", "'-00:00:00.25'"),
    *typed("DATETIME", "datetime", "'1988-07-01 08:00:00'", "'1986-05-04 02:30:00'"),
    *typed("DATETIME", "datetime", "'0000-00-00 00:00:00'"),
    *typed("DATETIME", "date", "'2026-11-01 00:00:00'", "'2026-11-01 08:00:00'"),
    *typed("DATETIME(6)", "datetime", "'2026-11-01 08:00:00.123000'"),
    *typed("DATETIME(3)", "text(40)", "'2026-11-01 08:00:00.120'"),
    *typed("TIMESTAMP NULL", "datetime", "'2026-11-01 08:00:00'", "'1970-01-02 00:00:00'"),
    *typed("TIMESTAMP(3) NULL", "datetime", "'2038-01-19 11:14:07.999'"),
    *typed("YEAR", "text(4)", "2026", "0"),
    *typed("YEAR", "integer", "1901"),
    *typed("ENUM('z','甲')", "text(20)", "'甲'", "'z'"),
    *typed("SET('z','甲')", "text(20)", "'甲,z'", "''"),
    *typed("JSON", "text(40)", '\'{"b":1, "a": "甲"}\''),
    *typed("UUID", "text(40)", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
    *typed("INET6", "text(40)", "'::ffff:10.0.0.1'"),
]
SQLITE = [
    *typed("INTEGER", "integer", "-9223372036854775808", "9223372036854775807", "'five'"),
    *typed("INTEGER", "text(20)", "42"),
    *typed("INT UNSIGNED", "integer", "7"),
    *typed("TINYINT", "integer", "-128"),
    *typed("MEDIUMINT", "text(20)", "8388607"),
    *typed("INT8", "integer", "'0042'"),
    *typed("BIGINT", "integer", "1.5"),
    *typed("BOOLEAN", "boolean", "1", "0", "2"),
    *typed("REAL", "double", "0.1", "1e-300", "5", "'half'"),
    *typed("DOUBLE", "double", "123456789.125"),
    *typed("DOUBLE PRECISION", "double", "-2.5"),
    *typed("FLOAT", "double", "16777217", "1.5e10"),
    *typed("DECIMAL(9,2)", "decimal(9,2)", "12.5", "-0.1", "'x'"),
    *typed("NUMERIC", "text(40)", "'1.10'", "'abc'"),
    *typed("NUMERIC", "integer", "7"),
    *typed("TEXT", "text(200)", "'甲'", "'O''Brien'", "'007'", "'  a '", "'𠀀'"),
    *typed("TEXT", "text(200)", "CAST(x'd5c5' AS TEXT)", "42", "1.5"),
    *typed("TEXT", "integer", "'42'", "'4 2'"),
    *typed("TEXT", "decimal(9,2)", "'1.50'", "'1.505'"),
    *typed("VARCHAR(20)", "text(20)", "'ab'"),
    *typed("CHAR(6)", "text(20)", "'ab'"),
    *typed("NCHAR(6)", "text(20)", "'张三'"),
    *typed("NVARCHAR(20)", "text(20)", "'𠀀'", "'NULL'"),
    *typed("VARYING CHARACTER(9)", "text(20)", "'ab '"),
    *typed("CLOB", "text(20)", "'甲乙'"),
    *typed("BLOB", "text(20)", "x'00ff'", "x'd5c5'", shown="'\\x' || lower(hex({}))"),
    *typed("BLOB", "text(20)", "'text'"),
    *typed("TEXT", "text(20)", "x'00ff'", shown="'\\x' || lower(hex({}))"),
    *typed("DATE", "date", "'2024-02-29'", "'2023-02-29'", "20240229", "'0000-00-00'"),
    *typed("DATETIME", "datetime", "'1988-07-01 08:00:00'", "'2026-11-01T08:00:00.123'"),
    *typed("DATETIME", "datetime", "'1986-05-04 02:30:00'", "'24:00'"),
    *typed("TIMESTAMP", "datetime", "'2026-11-01 08:00:00'"),
    *typed("TIME", "text(20)", "'25:30:00'"),
    *typed("JSON", "text(40)", '\'{"b":1, "a": "甲"}\''),
    *typed("", "text(40)", "'untyped'", "7", "1.5"),
]


def delivered(url: str, **options: Any) -> pl.DataFrame:
    source = sql.open({"url": "env:URL", **options}, lambda _: url)
    return next(iter(source.pull())).frame


def sealed(value: Value, column: pl.Series) -> Any:
    """Return what the catalog's type makes of a value; None when it is refused."""
    made = convert(column, parse_type(value.field), zone=CHINA).values[0]
    return made.astimezone(BEIJING).replace(tzinfo=None) if isinstance(made, datetime) else made


def same(text: str, made: Any) -> bool:
    """Tell whether a sealed value is what the engine shows."""
    if isinstance(made, bool):
        return made == (text in ("true", "1"))
    if isinstance(made, int | float | Decimal):
        return type(made)(text) == made
    if isinstance(made, datetime):
        result = text.removesuffix("+08")
        return datetime.fromisoformat(result) == made
    if isinstance(made, date):
        return text in (f"{made}", f"{made} 00:00:00", f"{made:%Y%m%d}")
    return bool(text == made)


def lines(
    values: list[Value], texts: dict[int, str], frame: pl.DataFrame
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return a line of the page for each value, and what differs without a reason."""
    items: list[tuple[str, ...]] = []
    wrong = []
    frame = frame.sort("id")
    for number, value in enumerate(values):
        result = sealed(value, frame[f"c{number}"][number : number + 1])
        defect = frame["_defect"][number] if "_defect" in frame.columns else None
        text = texts[number]
        if defect is not None or result is None:
            reason = (defect or f"no {value.field}").removeprefix(f"c{number}: ")
            shown = f"refused: {reason}"
        else:
            shown = result.isoformat(" ") if isinstance(result, datetime) else str(result)
            if not same(text, result):
                wrong.append(f"{value.type} {value.literal}: shown {text!r}, sealed {result!r}")
        items.append((value.type or "(none)", text, value.field, shown))
    return items, wrong


def columns(values: list[Value]) -> str:
    return ", ".join(["id INT PRIMARY KEY", *(f"c{n} {v.type}" for n, v in enumerate(values))])


def fill(run: Callable[[str], Any], name: str, values: list[Value]) -> None:
    run(f"CREATE TABLE {name} ({columns(values)})")
    for number, value in enumerate(values):
        run(f"INSERT INTO {name} (id, c{number}) VALUES ({number}, {value.literal})")


@pytest.fixture(scope="module")
def postgres_case(postgres: Server) -> tuple[str, dict[int, str]]:
    with psycopg.connect(postgres.url, autocommit=True) as db:
        db.execute("CREATE EXTENSION IF NOT EXISTS citext")
        db.execute("DROP TABLE IF EXISTS types")
        db.execute("DROP TYPE IF EXISTS mood, pair CASCADE; DROP DOMAIN IF EXISTS price CASCADE")
        db.execute("CREATE TYPE mood AS ENUM ('z', 'a'); CREATE TYPE pair AS (n int, t text)")
        db.execute("CREATE DOMAIN price AS numeric(9,2)")
        fill(lambda statement: db.execute(statement.encode()), "types", POSTGRES)
        db.execute("SET TimeZone = 'Etc/GMT-8'")
        texts = {
            number: db.execute(f"SELECT c{number}::text FROM types WHERE id = {number}".encode())
            for number in range(len(POSTGRES))
        }
        return postgres.url, {number: rows.fetchall()[0][0] for number, rows in texts.items()}


def compare(
    engine: str, values: list[Value], texts: dict[int, str], frames: dict[str, pl.DataFrame]
) -> tuple[list[tuple[str, ...]], int]:
    first: list[tuple[str, ...]] = []
    for way, frame in frames.items():
        result, wrong = lines(values, texts, frame)
        assert wrong == [], f"{engine}, {way}"
        assert [line[:3] for line in result] == [line[:3] for line in first or result]
        refused = [line[3].startswith("refused") for line in result]
        assert refused == [line[3].startswith("refused") for line in first or result], way
        first = first or result
    return first, len(values) * len(frames)


@pytest.fixture(scope="module")
def every(
    mariadb: Server, postgres_case: tuple[str, dict[int, str]], tmp_path_factory: Any
) -> dict[str, tuple[list[Value], dict[int, str], dict[str, pl.DataFrame]]]:
    url, texts = postgres_case
    query = {"query": "SELECT * FROM types", "key": ["id"]}
    table = {"table": "types"}
    universal = url.replace("postgresql:", "postgresql+psycopg:")
    frames = {
        "columns": delivered(url, **table),
        "columns, query": delivered(url, **query),
        "universal": delivered(universal, **table),
        "universal, query": delivered(universal, **query),
    }
    out = {"PostgreSQL": (POSTGRES, texts, frames)}

    address = sa.make_url(mariadb.url)
    with pymysql.connect(
        host=address.host,
        port=address.port or 3306,
        user=address.username,
        password=str(address.password),
        database=str(address.database),
        charset="utf8mb4",
    ) as db:
        cursor = db.cursor()
        cursor.execute("SET sql_mode = '', time_zone = '+08:00'")
        cursor.execute("DROP TABLE IF EXISTS types")
        fill(cursor.execute, "types", MARIADB)
        db.commit()
        texts = {}
        for number, value in enumerate(MARIADB):
            result = value.shown.format(f"c{number}")
            cursor.execute(f"SELECT CAST({result} AS CHAR) FROM types WHERE id = {number}")
            texts[number] = cursor.fetchall()[0][0]
    frames = {
        "table": delivered(mariadb.url, **table),
        "query": delivered(mariadb.url, **query),
    }
    out["MariaDB"] = (MARIADB, texts, frames)

    path = tmp_path_factory.mktemp("types") / "types.db"
    with sqlite3.connect(path) as lite:
        fill(lite.execute, "types", SQLITE)
        lite.text_factory = lambda data: data.decode("utf-8", "replace")
        texts = {}
        for number, value in enumerate(SQLITE):
            result = value.shown.format(f"c{number}")
            statement = f"SELECT CAST({result} AS TEXT) FROM types WHERE id = {number}"
            texts[number] = lite.execute(statement).fetchall()[0][0]
    lite.close()
    out["SQLite"] = (SQLITE, texts, {"table": delivered(f"sqlite:///{path}", **table)})
    return out


@pytest.mark.parametrize("engine", ["PostgreSQL", "MariaDB", "SQLite"])
def test_what_the_database_shows_is_what_is_sealed(
    engine: str, every: dict[str, Any], tell: Callable[[str], None]
) -> None:
    values, texts, frames = every[engine]
    result, compared = compare(engine, values, texts, frames)
    kinds = len({value.type for value in values})
    refused = sum(line[3].startswith("refused") for line in result)
    tell(
        f"sql: {engine}: {len(values)} values of {kinds} types, {compared} comparisons, "
        f"0 silent differences, {refused} refused with a reason"
    )
    assert len(values) >= 60


def test_there_are_enough_values() -> None:
    for values in (POSTGRES, MARIADB, SQLITE):
        assert len(values) >= 60
    assert len({(v.type, v.literal) for v in (*POSTGRES, *MARIADB, *SQLITE)}) >= 170


_INTRODUCTION = (
    "Made by `tests/connect/test_sql_types.py` on real databases. *Shown* is the engine's own "
    "text at +08:00, *field* the type in the catalog, *sealed* the value that is sealed "
    "(instants at +08:00). What is refused goes to quarantine with that reason. · "
    "每种数据库类型：数据库显示的值、目录中的类型、封签的值；由测试生成。"
)


def test_the_page_of_types_is_that_of_the_test(every: dict[str, Any]) -> None:
    out = ["# What becomes of each type of a database", "", _INTRODUCTION]
    for engine, (values, texts, frames) in every.items():
        result, _ = compare(engine, values, texts, frames)
        out += ["", f"## {engine}", "", "| type | shown | field | sealed |", "|---|---|---|---|"]
        out += ["| " + " | ".join(f"`{cell(part)}`" for part in line) + " |" for line in result]
    page = "\n".join(out) + "\n"
    if os.environ.get("EXCHANGE_WRITE") == "1":
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page


def cell(text: str) -> str:
    """Write a value into a cell of the page."""
    return text.replace("|", "\\|").replace("`", "'")
