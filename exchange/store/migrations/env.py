"""Runs migrations on the connection that :mod:`exchange.store.database` hands over.

The whole upgrade is one transaction, owned by the caller, on SQLite too.
"""

from __future__ import annotations

from alembic import context

from exchange.store.sql import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
