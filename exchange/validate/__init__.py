"""Validate: the catalog as column expressions; verdicts with every reason, as data (D1, D8).

In: raw frames of one pull, in the source's own types, at best 20,000 rows and more at a time.
Out: the typed rows that keep the contract, and the original rows that do not, each with all
its reasons. A refused record is data, never an exception; what raises is
:class:`~exchange.errors.Misconfigured`, when the source lacks a column that the catalog needs.
"""
