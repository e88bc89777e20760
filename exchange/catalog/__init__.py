"""The catalog: the contract that everything else is derived from (D7).

In: YAML files written by people. Out: a frozen :class:`~exchange.catalog.model.Catalog`, Avro
schemas, masking, the plan of a change. Raises :class:`~exchange.catalog.loader.FileErrors`
with every problem at once, each with file, line and a suggestion.
"""
