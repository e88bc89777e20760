"""Messages and states: their bytes are a file format, and what others wrote is told apart."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Misconfigured
from exchange.log import Entry, Message
from exchange.pipeline.messages import (
    NOBODY,
    EvidenceState,
    NotesEntry,
    Origin,
    PullState,
    RawBatch,
    ReceiptEntry,
    RefusedEntry,
    SealedEntry,
    put_back_message,
    put_back_offset,
    replayed_message,
    replayed_rows,
)
from exchange.pipeline.partition import Numbers, PartitionState
from exchange.text import Text

AT = datetime(2026, 11, 23, 1, 2, 3, 4000, UTC)
ORIGIN = Origin("cases-db", "20261123T010203-00", "cases.csv", AT)
FROM = {
    "source": "cases-db",
    "pull": "20261123T010203-00",
    "locator": "cases.csv",
    "at": "2026-11-23T01:02:03.004Z",
}
REFUSED = RefusedEntry(ORIGIN, 2, {"key:no": 2}, "3", b"frame", "1/7")


def entry(message: Message, offset: int = 5) -> Entry:
    place = (message.topic, message.partition, offset)
    return Entry(*place, message.key, message.value, message.headers, 1_763_860_000_000)


@pytest.mark.parametrize(
    ("message", "topic", "key", "headers"),
    [
        (
            RawBatch(ORIGIN, 3, 10, 0, b"frame").to_message("cases", 1),
            "exchange.raw.cases",
            "",
            {**FROM, "rows": "3", "since": "10", "index": "0"},
        ),
        (
            SealedEntry("2026112300001", 3, "sm3:00", "ff", "p", b"batch").to_message("cases", 1),
            "exchange.sealed.cases",
            "2026112300001",
            {"rows": "3", "statement": "sm3:00", "root": "ff", "pull": "p"},
        ),
        (
            REFUSED.to_message("cases", 1),
            "exchange.quarantine.cases",
            "",
            {
                "kind": "records",
                **FROM,
                "rows": "2",
                "reasons": '{"key:no": 2}',
                "catalog": "3",
                "raw": "1/7",
            },
        ),
        (
            NotesEntry(ORIGIN, [{"row": 1, "kind": "title", "text": "题"}]).to_message("cases"),
            "exchange.quarantine.cases",
            "",
            {**FROM, "kind": "notes"},
        ),
        (
            ReceiptEntry("cases", "2026112300001", 1, b"{}").to_message(),
            "exchange.receipts",
            "cases/2026112300001",
            {"kind": "receipt", "lane": "1"},
        ),
        (
            ReceiptEntry("cases", "2026112300001", 1, b"{}", verified=False).to_message(),
            "exchange.receipts",
            "cases/2026112300001",
            {"kind": "wrong"},
        ),
    ],
)
def test_headers_and_keys_stay_as_they_are(
    message: Message, topic: str, key: str, headers: Mapping[str, str]
) -> None:
    assert (message.topic, message.key) == (topic, key)
    assert list(message.headers.items()) == list(headers.items())


def test_what_is_written_reads_back() -> None:
    raw = RawBatch(ORIGIN, 3, 10, 0, b"frame")
    assert RawBatch.of(entry(raw.to_message("cases", 1))) == raw
    sealed = SealedEntry("2026112300001", 3, "sm3:00", "ff", "p", b"batch")
    assert SealedEntry.of(entry(sealed.to_message("cases", 1))) == sealed
    assert RefusedEntry.of(entry(REFUSED.to_message("cases", 1))) == REFUSED
    notes = NotesEntry(ORIGIN, [{"row": 1, "kind": "title", "text": "题"}])
    assert NotesEntry.of(entry(notes.to_message("cases"))) == notes
    receipt = ReceiptEntry("cases", "2026112300001", 1, b"{}")
    assert ReceiptEntry.of(entry(receipt.to_message())) == receipt
    wrong = replace(receipt, verified=False, partition=0)
    assert ReceiptEntry.of(entry(wrong.to_message())) == wrong


NAMES = ("source", "pull", "locator", "at", "rows", "since", "index", "kind", "statement", "root")
STRANGE = st.dictionaries(
    st.sampled_from((*NAMES, "reasons", "catalog", "raw", "lane", "x")),
    st.sampled_from(["", "1", "-", "x", "records", "notes", "receipt", "{}", "[]", FROM["at"]])
    | st.text(max_size=8),
)


@given(STRANGE, st.binary(max_size=20), st.sampled_from(["", "k", "a/b"]))
def test_no_headers_of_others_raise(headers: dict[str, str], value: bytes, key: str) -> None:
    foreign = Entry("exchange.quarantine.cases", 2, 9, key, value, headers, 1_763_860_000_000)
    for read in (RawBatch.of, SealedEntry.of, NotesEntry.of, ReceiptEntry.of):
        read(foreign)
    refused = RefusedEntry.of(foreign)
    assert refused.data == value
    if "catalog" not in headers:
        assert (refused.origin.source, refused.readable) == (NOBODY, False)
        assert refused.origin.locator == "exchange.quarantine.cases/2/9"


def test_an_unreadable_message_is_kept_with_what_is_known_of_it() -> None:
    raw = entry(RawBatch(ORIGIN, 3, 10, 0, b"frame").to_message("cases", 1))
    later = AT.replace(hour=9)
    refused = RefusedEntry.unreadable(raw, later, "3")
    assert refused.origin == replace(ORIGIN, at=later)
    assert (refused.raw, refused.data, refused.readable) == ("1/5", b"frame", False)
    assert RefusedEntry.of(entry(refused.to_message("cases", 1))) == refused


# --- states ---------------------------------------------------------------------------------------

PULLED = PullState("p", AT, {"id": 3}, 4, (1, 0), (7, 9), done=True, absent=("x",))
LEARNED = replace(PULLED, columns=("a", "b"), appeared=("c",), learns=False)
PARTITION = PartitionState("20261123", 3, 64, "sm3:0", "p", 5, 2, ((7, 2),), Text("停", "s"), "q")


def state(message: Message) -> dict[str, Any]:
    """Return a state as the former version wrote it: without a version."""
    members: dict[str, Any] = json.loads(message.value)
    members.pop("version", None)
    return members


def test_states_keep_their_keys_and_members() -> None:
    pulled = PULLED.to_message("cases-db")
    assert (pulled.topic, pulled.key) == ("exchange.cursors", "pull/cases-db")
    assert state(pulled) == {
        "pull": "p",
        "began": FROM["at"],
        "cursor": {"id": 3},
        "rows": 4,
        "done": True,
        "messages": [1, 0],
        "since": [7, 9],
        "changes": False,
        "absent": ["x"],
        "noted": [],
    }
    partition = PARTITION.to_message("cases", 2)
    assert partition.key == "lane/cases/2"
    assert state(partition) == {
        "day": "20261123",
        "number": 3,
        "upto": 64,
        "statement": "sm3:0",
        "pull": "p",
        "accepted": 5,
        "rejected": 2,
        "recent": [[7, 2]],
        "waived": "q",
        "halted": {"zh": "停", "en": "s"},
    }
    numbers = Numbers("20261123", 64, {"0": (1, 64)}).to_message("cases")
    assert numbers.key == "numbers/cases"
    assert state(numbers) == {"day": "20261123", "last": 64, "blocks": {"0": [1, 64]}}
    assert put_back_message("cases", 2, 8).key == "again/cases/2"
    assert state(put_back_message("cases", 2, 8)) == {"offset": 8}
    assert state(replayed_message("replayed/cases/0/1", "r", [2])) == {"pull": "r", "rows": [2]}
    evidence = EvidenceState(3, 5, "ab").to_message()
    assert (evidence.key, state(evidence)) == ("evidence", {"offset": 3, "size": 5, "root": "ab"})


READ: list[tuple[Callable[[Entry | None], object], Message, object]] = [
    (PullState.of, PULLED.to_message("cases-db"), PULLED),
    (PullState.of, LEARNED.to_message("cases-db"), LEARNED),
    (PartitionState.of, PARTITION.to_message("cases", 2), PARTITION),
    (
        lambda item: Numbers.of(item).blocks["0"][1],
        Numbers("20261123", 64, {"0": (1, 64)}).to_message("cases"),
        64,
    ),
    (put_back_offset, put_back_message("cases", 2, 8), 8),
    (replayed_rows, replayed_message("replayed/cases/0/1", "r", [2]), {2}),
    (EvidenceState.of, EvidenceState(3, 5, "ab").to_message(), EvidenceState(3, 5, "ab")),
]


@pytest.mark.parametrize(("read", "message", "expected"), READ)
def test_states_of_this_and_of_the_former_version_read_alike(
    read: Callable[[Entry | None], object], message: Message, expected: object
) -> None:
    former = replace(message, value=json.dumps(state(message)).encode())
    assert read(entry(message)) == read(entry(former)) == expected


@pytest.mark.parametrize(("read", "message", "_expected"), READ)
def test_a_state_of_a_newer_version_stops_this_one(
    read: Callable[[Entry | None], object], message: Message, _expected: object
) -> None:
    newer = replace(message, value=json.dumps(state(message) | {"version": 3, "x": 1}).encode())
    with pytest.raises(Misconfigured):
        read(entry(newer))


def test_no_state_is_the_state_of_what_is_new() -> None:
    assert PullState.of(None) is None
    assert PartitionState.of(None) == PartitionState()
    assert (put_back_offset(None), replayed_rows(None)) == (None, frozenset())
    assert EvidenceState.of(None) == EvidenceState()
