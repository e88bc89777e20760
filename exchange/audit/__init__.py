"""The audit of a whole node: everything that it keeps is read again and compared.

In: an open log and store, the folder of the evidence log, applied catalog and schemas, and whom
the auditor trusts. Out: numbered checks (:data:`exchange.audit.findings.CHECKS`), each with what
was expected, what is there, and where. Nothing is written. It works beside a running node: what
comes in meanwhile is left to the next audit. Raises Transient where log or store do not answer;
whatever contradicts itself is a failed check.
"""
