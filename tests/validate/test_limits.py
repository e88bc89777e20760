from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchange.catalog.model import Limits
from exchange.validate.limits import Tally


def test_no_limit_is_never_exceeded() -> None:
    tally = Tally(Limits())
    tally.add(0, 10**6)
    assert tally.exceeded() is None


def test_count() -> None:
    tally = Tally(Limits(max_count=10))
    tally.add(5, 10)
    assert tally.exceeded() is None
    tally.add(5, 1)
    text = tally.exceeded()
    assert text is not None
    assert "11" in text.zh
    assert "11" in text.en


def test_percent_waits_for_a_window() -> None:
    tally = Tally(Limits(max_percent=10, window_rows=100))
    tally.add(0, 99)
    assert tally.exceeded() is None
    tally.add(0, 1)
    assert tally.exceeded() is not None
    tally.add(1000, 0)
    assert tally.exceeded() is None


_CHUNKS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)))


@given(_CHUNKS, st.integers(1, 100), st.floats(0, 100))
def test_the_window_is_the_fewest_newest_chunks_that_fill_it(
    chunks: list[tuple[int, int]], window: int, share: float
) -> None:
    tally = Tally(Limits(max_percent=share, window_rows=window))
    for count, (accepted, rejected) in enumerate(chunks, start=1):
        tally.add(accepted, rejected)
        rows = refused = 0
        for good, bad in reversed(chunks[:count]):
            if rows >= window:
                break
            rows, refused = rows + good + bad, refused + bad
        exceeded = rows >= window and 100 * refused / rows > share
        assert (tally.exceeded() is not None) == exceeded
    assert tally.accepted == sum(good for good, _ in chunks)
    assert tally.rejected == sum(bad for _, bad in chunks)


@given(_CHUNKS, st.integers(1, 100), st.floats(0, 100), st.integers(0, 200))
def test_a_tally_goes_on_where_it_stood(
    chunks: list[tuple[int, int]], window: int, share: float, most: int
) -> None:
    limits = Limits(max_count=most, max_percent=share, window_rows=window)
    whole, resumed = Tally(limits), Tally(limits)
    for accepted, rejected in chunks:
        whole.add(accepted, rejected)
        resumed = Tally(limits, recent=resumed.recent, rejected=resumed.rejected)
        resumed.add(accepted, rejected)
        assert resumed.exceeded() == whole.exceeded()
