"""The evidence log (存证日志): one append-only RFC 6962 tree per node, and what proves its history.

In: an entry for every statement and every receipt. Out: files that any static server may
publish, signed checkpoints, proofs, a full audit, and evidence packages that are verified
offline. Raises Transient where the disk fails (the same entries may be appended again), and
:class:`exchange.errors.Integrity` where the log contradicts itself. ``docs/evidence.md`` has
every format byte by byte.
"""
