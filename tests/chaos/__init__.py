"""Chaos: a whole cluster of brokers and workers, broken by a seeded plan while it works."""
