from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tamper.fuzz import PARSERS, Parser, measured, watched

ROOT = Path(__file__).parents[2]
TIMES = int(os.environ.get("EXCHANGE_FUZZ", "1"))
"""How many times as many inputs."""


LONG_RUN = 50
"""How many in `make fuzz`, which docs/threat-model.md states."""


def test_the_numbers_are_those_of_the_threat_model() -> None:
    page = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    for parser in PARSERS:
        assert f"| {parser.name} | {LONG_RUN * parser.inputs:,} |" in page, parser.name
    assert f"EXCHANGE_FUZZ={LONG_RUN} " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_a_parser_refuses_what_is_not_true(parser: Parser, tell: Callable[[str], None]) -> None:
    seeds = set(parser.seeds())
    assert all(parser.takes(seed) for seed in seeds)
    longest, verdicts = 0, Counter[bool]()
    with measured() as grown, watched() as begin:
        for data in parser.inputs_of(TIMES):
            begin()
            try:
                taken = parser.verdict(data)
            except BaseException as error:
                error.add_note(f"{parser.name}: {data[:2000].hex()}")
                raise
            assert data in seeds or not (taken and parser.bound), data[:2000].hex()
            verdicts[taken] += 1
            longest = max(longest, len(data))
        used = grown()
    assert verdicts[False]
    assert used <= parser.memory + longest
    tell(f"{parser.name}: {verdicts.total():,} inputs, {used // 2**20} MiB at most")
