"""What other tools read from the sources of tests/connect/test_fidelity.py, with their defaults.

Run by a Python that has them (pandas, openpyxl, SQLAlchemy, psycopg2, PyMySQL, connectorx, duckdb,
dlt); addresses come in as JSON, and what came out goes out as JSON: tool, source, field, value.
A tool that is not there is left out.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import tempfile
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

Reader = Callable[[str], dict[str, Any]]
TABLE = "fidelity"


def plain(value: Any) -> Any:
    """Return a value that JSON keeps: numbers that are exact as such, everything else as text."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | Decimal):
        return str(value)
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def record(frame: Any) -> dict[str, Any]:
    """Return the one row of a frame of pandas."""
    return {str(name): plain(frame[name].iloc[0]) for name in frame.columns}


def with_psycopg2(url: str) -> str:
    """Return an address of PostgreSQL for SQLAlchemy."""
    return url.replace("postgresql://", "postgresql+psycopg2://")


def pandas_readers() -> dict[str, Reader]:
    """Return how pandas reads each kind of source."""
    pandas, sqlalchemy = importlib.import_module("pandas"), importlib.import_module("sqlalchemy")

    def table(url: str) -> dict[str, Any]:
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            return record(pandas.read_sql(f"SELECT * FROM {TABLE}", connection))  # noqa: S608

    return {
        "csv": lambda path: record(pandas.read_csv(path)),
        "xlsx": lambda path: record(pandas.read_excel(path)),
        "sqlite": lambda path: table(f"sqlite:///{path}"),
        "postgres": lambda url: table(with_psycopg2(url)),
        "mariadb": table,
        "rest": lambda url: record(pandas.read_json(url)),
    }


def connectorx_readers() -> dict[str, Reader]:
    """Return how connectorx reads each kind of source."""
    connectorx = importlib.import_module("connectorx")

    def table(url: str) -> dict[str, Any]:
        return record(connectorx.read_sql(url, f"SELECT * FROM {TABLE}"))  # noqa: S608

    return {
        "sqlite": lambda path: table(f"sqlite://{path}"),
        "postgres": table,
        "mariadb": lambda url: table(url.replace("mysql+pymysql:", "mysql:")),
    }


def duckdb_readers() -> dict[str, Reader]:
    """Return how DuckDB reads each kind of source."""
    duckdb = importlib.import_module("duckdb")

    def rows(result: Any) -> dict[str, Any]:
        (row,) = result.fetchall()
        return dict(zip(result.columns, map(plain, row), strict=True))

    def web(url: str) -> dict[str, Any]:
        request = importlib.import_module("urllib.request")
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            Path(file.name).write_bytes(request.urlopen(url).read())
            return rows(duckdb.sql(f"SELECT * FROM read_json('{file.name}')"))  # noqa: S608

    return {
        "csv": lambda path: rows(duckdb.sql(f"SELECT * FROM read_csv('{path}')")),  # noqa: S608
        "rest": web,
    }


def dlt_readers() -> dict[str, Reader]:
    """Return how dlt reads each kind of source."""
    dlt = importlib.import_module("dlt")
    parquet = importlib.import_module("pyarrow.parquet")

    def load(source: Any) -> dict[str, Any]:
        """Load into Parquet files, and read the one row."""
        with tempfile.TemporaryDirectory() as folder:
            pipeline = dlt.pipeline(
                "fidelity",
                destination=dlt.destinations.filesystem(f"file://{folder}/out"),
                dataset_name="d",
                pipelines_dir=f"{folder}/work",
            )
            pipeline.run(source, table_name=TABLE, loader_file_format="parquet")
            (file,) = Path(folder, "out", "d", TABLE).rglob("*.parquet")
            (row,) = parquet.read_table(file).to_pylist()
            return {name: plain(value) for name, value in row.items()}

    def table(url: str) -> dict[str, Any]:
        sql = importlib.import_module("dlt.sources.sql_database")
        return load(sql.sql_table(url, TABLE))

    def csv(path: str) -> dict[str, Any]:
        files = importlib.import_module("dlt.sources.filesystem")
        found = files.filesystem(bucket_url=f"file://{Path(path).parent}", file_glob="*.csv")
        return load(found | files.read_csv())

    def rest(url: str) -> dict[str, Any]:
        api = importlib.import_module("dlt.sources.rest_api")
        base, _, path = url.rpartition("/")
        config = {
            "client": {"base_url": base},
            "resources": [{"name": TABLE, "endpoint": {"path": path, "paginator": "single_page"}}],
        }
        return load(api.rest_api_source(config))

    return {
        "csv": csv,
        "sqlite": lambda path: table(f"sqlite:///{path}"),
        "postgres": lambda url: table(with_psycopg2(url)),
        "mariadb": table,
        "rest": rest,
    }


TOOLS = {
    "pandas": pandas_readers,
    "dlt": dlt_readers,
    "connectorx": connectorx_readers,
    "duckdb": duckdb_readers,
}


def main() -> None:
    """Read with each tool that is there."""
    addresses = json.load(sys.stdin)
    out: dict[str, Any] = {}
    for name, readers in TOOLS.items():
        try:
            made, version = readers(), importlib.import_module(name).__version__
        except ImportError:
            continue
        found = out.setdefault(f"{name} {version}", {})
        for source, read in made.items():
            try:
                found[source] = read(addresses[source])
            except Exception as error:  # noqa: BLE001 - another tool may fail in any way
                found[source] = {"error": f"{type(error).__name__}: {error}"[:300]}
                sys.stderr.write(f"{name} {source}: {found[source]['error']}\n")
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
