from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.catalog.model import Resource
from exchange.errors import Misconfigured
from exchange.text import Text
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.isolation import CHECK_FAILED, check_isolated
from exchange.validate.source_frame import REASONS
from exchange.validate.validator import CheckResult, compile_resource
from tests.validate.samples import DEPARTMENT, rule
from tests.validate.samples import field as catalog_field

TABLE = Resource(
    name="table",
    code="307001/1",
    title="表",
    department=DEPARTMENT,
    key=("no",),
    fields=(catalog_field("no", "integer", required=True), catalog_field("size", "integer")),
    rules=(rule("small", "POWER(2, size) < 9", "size"),),
)
"""A rule that the library fails at where ``size`` is negative; no catalog of a node may have it."""
VALIDATOR = compile_resource(TABLE, {})


@dataclass
class Checks:
    """Checks with a validator; counts how often it was asked."""

    count: int = 0

    def __call__(self, frame: pl.DataFrame, claimed: ClaimedKeys) -> CheckResult:
        self.count += 1
        return VALIDATOR.check(frame, today=date(2026, 12, 1), claimed=claimed)


def _rules(result: CheckResult) -> list[list[str]]:
    return [[reason["rule"] for reason in record] for record in result.rejected[REASONS].to_list()]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([-1, 0, 3, 4])), max_size=40))
def test_the_records_at_fault_are_refused_and_the_others_judged(
    records: list[tuple[int, int]],
) -> None:
    frame = pl.DataFrame(records, schema={"no": pl.Int64, "size": pl.Int64}, orient="row")
    checks = Checks()
    result = check_isolated(checks, TABLE, frame, ClaimedKeys())
    claimed: set[int] = set()
    accepted, rejected, rules = [], [], []
    for row, (no, size) in enumerate(records):
        broken = [CHECK_FAILED] if size < 0 else ["small"] if size > 3 else []
        if size >= 0 and no in claimed:
            broken.append("key")
        if broken:
            rejected.append(row)
            rules.append(sorted(broken))
        else:
            accepted.append(row)
            claimed.add(no)
    assert result.accepted_rows.tolist() == accepted
    assert result.rejected_rows.tolist() == rejected
    assert [sorted(names) for names in _rules(result)] == rules
    assert result.accepted["no"].to_list() == [records[row][0] for row in accepted]
    assert result.rejected.drop(REASONS).equals(frame[rejected])
    assert len(result.claimed) == len(claimed)
    assert result.counts.get(CHECK_FAILED, 0) == sum(size < 0 for _, size in records)


def test_one_bad_record_among_many_costs_few_checks() -> None:
    frame = pl.DataFrame(
        {"no": range(20_000), "size": [-1 if n == 7_777 else 1 for n in range(20_000)]}
    )
    checks = Checks()
    result = check_isolated(checks, TABLE, frame, ClaimedKeys())
    assert result.rejected_rows.tolist() == [7_777]
    assert checks.count <= 31
    ((reason,),) = result.rejected[REASONS].to_list()
    assert "InvalidOperationError" in reason["en"]
    assert "InvalidOperationError" in reason["zh"]


def test_the_work_is_bounded_and_nothing_is_lost() -> None:
    frame = pl.DataFrame({"no": range(1_000), "size": [-1] * 1_000})
    checks = Checks()
    result = check_isolated(checks, TABLE, frame, ClaimedKeys(), most=50)
    assert checks.count == 50
    assert result.rejected_rows.tolist() == list(range(1_000))
    assert result.counts == {CHECK_FAILED: 1_000}


@dataclass
class Raises:
    """A check that ends with an error of ours, or of the machine."""

    error: Exception = field(default_factory=MemoryError)

    def __call__(self, _frame: pl.DataFrame, _claimed: ClaimedKeys) -> CheckResult:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [Misconfigured(Text("缺", "lacks"), hint=Text("补", "add")), OSError("disk"), MemoryError()],
)
def test_errors_that_are_nobodys_record_pass_through(error: Exception) -> None:
    frame = pl.DataFrame({"no": [1, 2], "size": [1, 1]})
    with pytest.raises(type(error)):
        check_isolated(Raises(error), TABLE, frame, ClaimedKeys())
