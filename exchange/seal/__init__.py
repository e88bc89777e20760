"""Seal: typed records in, sealed batches out; and whoever holds one can verify it offline.

In: encoded records of one resource (``columns.encode``), facts, a department's electronic seal.
Out: one self-contained Avro file per batch (``batch.pack``, ``batch.build``), numbered checks
(``verify``), proofs of single records (``prove``). What goes wrong: Rejected for what cannot be
sealed, Misconfigured for a seal that cannot be used, Integrity for a file that is not one;
verification itself raises nothing, it lists. ``docs/sealed-batch.md`` has every byte.
"""
