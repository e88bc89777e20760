from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.soak import INPUTS
from tests.tamper.fuzz import PARSERS, Parser, measured, watched

ROOT = Path(__file__).parents[2]


def test_the_numbers_are_those_of_the_threat_model() -> None:
    page = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    for parser in PARSERS:
        assert f"| {parser.name} | {parser.inputs:,} |" in page, parser.name


@pytest.mark.soak
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_a_parser_refuses_what_is_not_true(parser: Parser, tell: Callable[[str], None]) -> None:
    seeds = set(parser.seeds())
    assert all(parser.takes(seed) for seed in seeds)
    longest, verdicts = 0, Counter[bool]()
    with measured() as grown, watched() as begin:
        for data in parser.inputs_of(INPUTS.now):
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
