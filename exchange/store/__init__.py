"""The store: what people look at, in SQLite or PostgreSQL (D6).

In: rows, as frozen dataclasses (:mod:`exchange.store.rows`), written in one transaction per
call. Out: the same rows, by key or as lists. Deliveries, receipts and the quarantine index can
be rebuilt from the log; touched records and the audit trail are what people decided.
Raises Misconfigured, Denied, Transient or Integrity, never an error of the database library.
Start at :func:`exchange.store.database.open_store`.
"""
