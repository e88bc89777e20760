"""Each store test runs on SQLite and on PostgreSQL, in a database of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.engine import Engine

from exchange.store.database import Store, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Server

START = datetime(2026, 11, 23, 1, 2, 3, 4000, tzinfo=UTC)
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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite3'}"
        return
    admin: Engine = request.getfixturevalue("admin")
    name = f"store_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield admin.url.set(drivername="postgresql", database=name).render_as_string(
        hide_password=False
    )
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


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
