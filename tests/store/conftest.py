"""Each store test runs on SQLite and on PostgreSQL, in a database of its own.

The schema is migrated once on each; a test that opens a store begins with a copy of that.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, create_engine, event, make_url, text
from sqlalchemy.engine import Engine

from exchange.store.database import Store, open_store
from tests.support.stored import START, make_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Server

Opener = Callable[[], Store]


class Clock:
    """Goes on by one second each time somebody looks."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture(scope="session")
def admin(postgres: Server) -> Iterator[Engine]:
    """Make and drop databases on the test server."""
    url = make_url(postgres.url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@contextmanager
def database(admin: Engine, template: str = "template1") -> Iterator[URL]:
    """Make a PostgreSQL database for a while."""
    name = f"store_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield admin.url.set(drivername="postgresql", database=name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def migrated_database(admin: Engine) -> Iterator[str]:
    """The name of a PostgreSQL database with the schema and no rows."""
    with database(admin) as url:
        address = url.render_as_string(hide_password=False)
        open_store(address, clock=Clock(), migrate=True).close()
        yield str(url.database)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the store of a test is: migrated for those that open it by ``opener``, else empty."""
    migrated = "opener" in request.fixturenames
    if request.param == "sqlite":
        path = tmp_path / "store.sqlite3"
        if migrated:
            make_store(path)
        yield f"sqlite:///{path}"
        return
    template = request.getfixturevalue("migrated_database") if migrated else "template1"
    with database(request.getfixturevalue("admin"), template) as address:
        yield address.render_as_string(hide_password=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opener(url: str, clock: Clock) -> Iterator[Opener]:
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(open_store(url, clock=clock, migrate=True))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()


@pytest.fixture(autouse=True)
def _portable() -> Iterator[None]:
    """Refuse SQL that the domestic databases do not have, whatever a test does.

    Alembic's own table is left out: what it does follows the dialect.
    """
    unportable = (" returning ", "on conflict", "jsonb", " array")

    def look(_c: object, _u: object, statement: str, *_: object) -> None:
        words = " ".join(statement.lower().split()) + " "
        if "pg_catalog" not in words and "alembic_version" not in words:
            assert not any(word in words for word in unportable), statement

    event.listen(Engine, "before_cursor_execute", look)
    yield
    event.remove(Engine, "before_cursor_execute", look)
