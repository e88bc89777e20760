"""Publishing: a resource's accepted records on a topic that programs outside can read.

In: sealed batches from the log. Out: one message per record on ``exchange.records.<resource>``,
keyed by primary key, in the Confluent wire format; a delete is a tombstone. Raises
:class:`exchange.errors.Transient` when log or registry are away,
:class:`exchange.errors.Rejected` when the registry refuses a schema, and
:class:`exchange.errors.Integrity` for what is no sealed batch of the resource.
"""
