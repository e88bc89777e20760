"""The store: what people look at, in SQLite or PostgreSQL (D6).

In: rows, as frozen dataclasses whose fields name their columns, written in one transaction per
call (``node``: what a node keeps, ``receiver``: what a receiver keeps). Out: the same rows, by
key or as lists. Deliveries, receipts and the quarantine index can be rebuilt from the log;
decisions about refused records and the audit trail are what people did.
Raises Misconfigured, Denied, Transient or Integrity, never an error of the database library.
Start at :func:`exchange.store.database.open_store`.
"""
