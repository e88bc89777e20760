"""The table of manipulations: what is done, which command tells it, and which check.

``docs/threat-model.md`` has the same table. Each is done to a copy of one node, by somebody who
has every key: seals hold and checksums are right unless the manipulation is about them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from exchange import receipt as receipts
from exchange.audit.decisions import RECOVERED
from exchange.catalog.canonical import catalog_digest
from exchange.catalog.model import Catalog
from exchange.catalog.plan import APPLIED
from exchange.evidence.checkpoint import Checkpoint, Head, SignedNote
from exchange.evidence.log import EvidenceLog, LogReader
from exchange.log import quarantine_topic, raw_topic, sealed_topic
from exchange.log.embedded.log import EmbeddedLog
from exchange.log.frames import decode_frame, encode_frame
from exchange.node.node import Node
from exchange.node.seal_administration import SealAdministration
from exchange.node.topics import common_topics
from exchange.pipeline.dismissal import Selection, dismiss
from exchange.pipeline.evidence import log_identity
from exchange.pipeline.removal import append_entries, removal_entries
from exchange.run.outcome import Where
from exchange.run.retention import TopicKind, plan_retention, remove
from exchange.run.runner import Runner
from exchange.seal.eseal.lifecycle import Step
from exchange.settings import load
from exchange.store.node.deliveries import DeliveryRow
from tests.audit.hands import LogFile, Row, resealed
from tests.pipeline.place import EAGER, Place, now, records
from tests.receipt.seals import make_party
from tests.support.nodes import add

RAW, SEALED, QUARANTINE = (kind("cases") for kind in (raw_topic, sealed_topic, quarantine_topic))
RECEIPTS, EVIDENCE, CURSORS = "exchange.receipts", "exchange.evidence", "exchange.cursors"
SEALS = "exchange.seals"
NODE, RECEIVER = "exchange audit", "exchange audit (receiver)"
KNOWN = "exchange audit --known"
HELD = "exchange audit --known RECEIPT (receiver)"


@dataclass(frozen=True)
class Copy:
    """A copy of the prepared node."""

    place: Place
    older: Path
    """The same node's ``data`` as it was earlier."""

    @property
    def folder(self) -> Path:
        return self.place.folder

    @property
    def log(self) -> LogFile:
        return LogFile(self.folder / "data" / "log.db")

    @property
    def evidence(self) -> Path:
        return self.folder / "data" / "evidence"

    def sql(self, statement: str, *values: object, store: str = "data/store.db") -> None:
        with closing(sqlite3.connect(self.folder / store)) as database, database:
            assert database.execute(statement, values).rowcount > 0

    def node(self) -> Node:
        return self.place.node()


Manipulate = Callable[[Copy], None]


@dataclass(frozen=True)
class Manipulation:
    """One row of the table."""

    what: str
    command: str
    check: str
    do: Manipulate


TABLE: list[Manipulation] = []


def manipulation(what: str, check: str, command: str = NODE) -> Callable[[Manipulate], Manipulate]:
    def add_row(do: Manipulate) -> Manipulate:
        TABLE.append(Manipulation(what, command, check, do))
        return do

    return add_row


# --- batches ------------------------------------------------------------------------------


def reseal(copy: Copy, row: Row, **changes: object) -> None:
    """Seal a batch once more with the department's own key; headers and state follow."""
    with copy.node() as node:
        sealer = node.seals.of(node.catalog.resource("cases"))
        batch = resealed(row.value, sealer, **changes)  # type: ignore[arg-type]
    statement = batch.statement
    headers = {"statement": batch.digest, "root": statement.root, "rows": str(statement.rows)}
    number = statement.batch_no
    copy.log.edit(SEALED, row, value=batch.data, key=number, headers=headers)
    if row == copy.log.entries(SEALED)[-1] or row.offset == copy.log.entries(SEALED)[-1].offset:
        state = copy.log.state("lane/cases/0")
        value = json.loads(state.value) | {"statement": batch.digest, "number": int(number[8:])}
        copy.log.edit(CURSORS, state, value=json.dumps(value).encode())


def last(copy: Copy, topic: str) -> Row:
    return copy.log.entries(topic)[-1]


@manipulation("a batch is sealed once more without one of its records", "evidence.batches")
def _(copy: Copy) -> None:
    reseal(copy, last(copy, SEALED), without=1)


@manipulation("a record is dropped from a batch, and its raw message too", "evidence.batches")
def _(copy: Copy) -> None:
    row = last(copy, SEALED)
    raw = copy.log.entries(RAW)[-1]
    frame = decode_frame(raw.value)[1:]
    copy.log.edit(RAW, raw, value=encode_frame(frame), headers={"rows": str(frame.height)})
    reseal(copy, row, without=1)


@manipulation("a batch is sealed once more with an earlier time", "batches.time")
def _(copy: Copy) -> None:
    row = last(copy, SEALED)
    with copy.node() as node:
        earlier = node.clock() - timedelta(minutes=40)
    reseal(copy, row, sealed_at=earlier)


@manipulation("a batch takes the number of the one before it", "batches.numbers")
def _(copy: Copy) -> None:
    first, second = copy.log.entries(SEALED)[:2]
    reseal(copy, second, batch_no=first.key)


@manipulation("a batch no longer names the one before it", "batches.chain")
def _(copy: Copy) -> None:
    reseal(copy, last(copy, SEALED), previous="")


@manipulation("a batch states fewer refused records than there are", "batches.counts")
def _(copy: Copy) -> None:
    reseal(copy, copy.log.entries(SEALED)[1], rejected=0)


@manipulation("a batch is sealed by somebody else", "batches.seal")
def _(copy: Copy) -> None:
    row = last(copy, SEALED)
    batch = resealed(row.value, make_party("stranger", now=copy.place.node().clock()).sealer)
    headers = {"statement": batch.digest, "root": batch.statement.root}
    copy.log.edit(SEALED, row, value=batch.data, headers=headers)


@manipulation("a record's bytes in a batch are changed", "batches.seal")
def _(copy: Copy) -> None:
    row = last(copy, SEALED)
    data = bytearray(row.value)
    data[-40] ^= 1
    copy.log.edit(SEALED, row, value=bytes(data))


@manipulation("a batch is said to come from another pull", "batches.place")
def _(copy: Copy) -> None:
    copy.log.edit(SEALED, last(copy, SEALED), headers={"pull": "20261123T000000-00000000"})


@manipulation("a batch is said to come from another raw message", "pulls.sealed")
def _(copy: Copy) -> None:
    copy.log.edit(SEALED, last(copy, SEALED), headers={"raw": "0/0"})


@manipulation("a batch in the middle is removed", "log.entries")
def _(copy: Copy) -> None:
    copy.log.drop(SEALED, 1)


@manipulation("the last batch is removed as if it had never been", "evidence.batches")
def _(copy: Copy) -> None:
    copy.log.cut(SEALED, last(copy, SEALED).offset)


@manipulation("the first batches are removed as by a retention that nobody ordered", "log.entries")
def _(copy: Copy) -> None:
    copy.log.drop(SEALED, 0)
    copy.log.run("UPDATE shard SET first = 1 WHERE topic = ?", SEALED)


@manipulation("the state of a partition goes back to an earlier batch", "partitions.state")
def _(copy: Copy) -> None:
    state, first = copy.log.state("lane/cases/0"), copy.log.entries(SEALED)[0]
    value = json.loads(state.value) | {"statement": first.headers["statement"]}
    copy.log.edit(CURSORS, state, value=json.dumps(value).encode())


# --- raw messages -------------------------------------------------------------------------


def shorten(copy: Copy, row: Row, rows: int) -> int:
    """Leave so many rows of a raw message; return how many have gone."""
    frame = decode_frame(row.value)
    data = encode_frame(frame[:rows])
    copy.log.edit(RAW, row, value=data, headers={"rows": str(rows)})
    return frame.height - rows


def pull(copy: Copy, *stages: str) -> None:
    """Bring more rows into the log; nothing of them is sealed."""
    add(copy.place, "cases", records(50, first=1_001))
    with copy.node() as node:
        work(node, "pull", *stages)


def work(node: Node, *stages: str) -> None:
    """Let stages work; the province is away, so nobody witnesses anything."""
    errors = Runner(node, policy=EAGER, stages=stages).once().errors
    assert errors.keys() <= {Where("evidence", "witness")}


@manipulation("a row is removed from a raw message after it was sealed", "pulls.sealed")
def _(copy: Copy) -> None:
    shorten(copy, copy.log.entries(RAW)[0], 99)


@manipulation("a raw message has fewer rows than it states", "raw.rows")
def _(copy: Copy) -> None:
    row = copy.log.entries(RAW)[0]
    copy.log.edit(RAW, row, value=encode_frame(decode_frame(row.value)[1:]))


@manipulation("a row is removed from a raw message before it is sealed", "pulls.rows")
def _(copy: Copy) -> None:
    pull(copy)
    shorten(copy, last(copy, RAW), 49)


@manipulation("a raw message is emptied before it is sealed", "pulls.rows")
def _(copy: Copy) -> None:
    pull(copy)
    shorten(copy, last(copy, RAW), 0)


@manipulation("a raw message is removed before it is sealed", "pulls.rows")
def _(copy: Copy) -> None:
    pull(copy)
    copy.log.cut(RAW, last(copy, RAW).offset)


@manipulation("a raw message is emptied, and the state of its pull follows", "evidence.pulls")
def _(copy: Copy) -> None:
    pull(copy, "evidence")
    gone = shorten(copy, last(copy, RAW), 0)
    state = copy.log.state("pull/cases")
    value = json.loads(state.value)
    value["rows"] -= gone
    copy.log.edit(CURSORS, state, value=json.dumps(value).encode())


@manipulation("a raw message is skipped before it is sealed", "pulls.sealed")
def _(copy: Copy) -> None:
    pull(copy)
    copy.log.run(
        "UPDATE position SET next = next + 1 WHERE member = 'seal' AND shard ="
        " (SELECT id FROM shard WHERE topic = ?)",
        RAW,
    )


# --- cursors ------------------------------------------------------------------------------


def move(copy: Copy) -> bytes:
    state = json.loads(copy.log.state("pull/cases").value)
    state["cursor"]["at"]["seq"] += 50
    return json.dumps(state).encode()


@manipulation("the cursor of a source is moved", "evidence.pulls")
def _(copy: Copy) -> None:
    copy.log.edit(CURSORS, copy.log.state("pull/cases"), value=move(copy))


@manipulation(
    "the cursor is moved as by a command, without its line in the trail", "evidence.pulls"
)
def _(copy: Copy) -> None:
    pull(copy, "evidence")
    with copy.node() as node:
        state = node.context.pull_state("cases")
        assert state is not None
        with node.log.transaction("pull/cases") as tx:
            tx.append(state.rewind({"moved": 1}).to_message("cases"))
        work(node, "evidence")


@manipulation("the state of a source is removed", "evidence.pulls")
def _(copy: Copy) -> None:
    copy.log.drop(CURSORS, copy.log.state("pull/cases").offset)
    copy.log.run("DELETE FROM newest WHERE key = 'pull/cases'")


# --- quarantine ---------------------------------------------------------------------------


@manipulation("a message of quarantine is removed", "log.entries")
def _(copy: Copy) -> None:
    copy.log.drop(QUARANTINE, 0)


@manipulation(
    "the last message of quarantine is removed as if it had never been", "evidence.quarantine"
)
def _(copy: Copy) -> None:
    copy.log.cut(QUARANTINE, last(copy, QUARANTINE).offset)


@manipulation("a refused record is removed from its message", "evidence.quarantine")
def _(copy: Copy) -> None:
    row = copy.log.entries(QUARANTINE)[0]
    frame = decode_frame(row.value)[1:]
    headers = {"rows": str(frame.height)}
    copy.log.edit(QUARANTINE, row, value=encode_frame(frame), headers=headers)


@manipulation("a refused record is removed, and raw message and statement follow", "batches.counts")
def _(copy: Copy) -> None:
    row = copy.log.entries(QUARANTINE)[0]
    frame = decode_frame(row.value)[1:]
    headers = {"rows": str(frame.height)}
    copy.log.edit(QUARANTINE, row, value=encode_frame(frame), headers=headers)
    offset = int(row.headers["raw"].partition("/")[2])
    raw = copy.log.entries(RAW)[offset]
    shorten(copy, raw, int(raw.headers["rows"]) - 1)


@manipulation("the value of a refused record is changed", "evidence.quarantine")
def _(copy: Copy) -> None:
    row = copy.log.entries(QUARANTINE)[0]
    frame = decode_frame(row.value)
    changed = frame.with_columns(name=frame["name"] + "改")
    copy.log.edit(QUARANTINE, row, value=encode_frame(changed))


@manipulation("the reasons of a refusal are changed", "evidence.quarantine")
def _(copy: Copy) -> None:
    row = copy.log.entries(QUARANTINE)[0]
    copy.log.edit(QUARANTINE, row, headers={"reasons": "{}"})


@manipulation("a message of quarantine states more rows than it has", "quarantine.rows")
def _(copy: Copy) -> None:
    copy.log.edit(QUARANTINE, copy.log.entries(QUARANTINE)[0], headers={"rows": "1000"})


@manipulation("a row of the quarantine index is removed", "store.quarantine")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM quarantine WHERE log_topic = ? AND log_offset = 1", QUARANTINE)


@manipulation("a row of the quarantine index counts fewer records", "store.quarantine")
def _(copy: Copy) -> None:
    copy.sql("UPDATE quarantine SET row_count = 0 WHERE log_topic = ?", QUARANTINE)


@manipulation("refused records are set dismissed", "store.decisions")
def _(copy: Copy) -> None:
    copy.sql("UPDATE quarantine SET dismissed = row_count WHERE dismissed = 0")


def decide(copy: Copy, state: str, by: str) -> None:
    with copy.node() as node:
        row = next(row for row in node.store.quarantine.find(waiting=True) if not row.dismissed)
        place = (row.topic, row.partition, row.offset)
        decided = node.store.quarantine.decide(*place, [0], state=state, by=by, note="x")  # type: ignore[arg-type]
        assert decided == [0]


@manipulation("a refused record is dismissed without a line in the trail", "store.decisions")
def _(copy: Copy) -> None:
    decide(copy, "dismissed", "wang")


@manipulation("a refused record is set replayed, and was not", "store.decisions")
def _(copy: Copy) -> None:
    decide(copy, "replayed", "wang")


@manipulation("a refused record is set settled by a person", "store.decisions")
def _(copy: Copy) -> None:
    decide(copy, "settled", "wang")


# --- receipts and deliveries --------------------------------------------------------------


@manipulation("a receipt is removed from the log", "log.entries")
def _(copy: Copy) -> None:
    copy.log.drop(RECEIPTS, 1)


@manipulation("the last receipt is removed as if it had never been", "evidence.batches")
def _(copy: Copy) -> None:
    copy.log.cut(RECEIPTS, last(copy, RECEIPTS).offset)


def forged(copy: Copy, row: Row) -> bytes:
    """Make a receipt for the same batch under a seal of one's own."""
    sealer = make_party("forger", now=copy.place.node().clock()).sealer
    receipt = replace(receipts.read(row.value), suite=sealer.suite.id)
    return receipts.issue(receipt, sealer, copy.place.node().clock())


@manipulation("a receipt is replaced by one that nobody trusts", "receipts.seal")
def _(copy: Copy) -> None:
    row = last(copy, RECEIPTS)
    copy.log.edit(RECEIPTS, row, value=forged(copy, row))


@manipulation("a receipt is replaced by that of another batch", "receipts.seal")
def _(copy: Copy) -> None:
    first, second = copy.log.entries(RECEIPTS)[:2]
    copy.log.edit(RECEIPTS, second, value=first.value)


@manipulation("a batch gets a second receipt", "receipts.once")
def _(copy: Copy) -> None:
    copy.log.append(RECEIPTS, last(copy, RECEIPTS))


@manipulation("a receipt is removed from the store", "store.receipts")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM receipts WHERE resource_name = 'firms'")


@manipulation("a receipt is replaced in the store", "store.receipts")
def _(copy: Copy) -> None:
    content = forged(copy, last(copy, RECEIPTS))
    copy.sql("UPDATE receipts SET content = ? WHERE resource_name = 'firms'", content)


def make_up(copy: Copy) -> None:
    with copy.node() as node:
        row = node.store.deliveries.find(resource="cases")[0]
        batch = {"batch_no": f"{row.batch_no[:8]}00099", "offset": 99, "state": "receipted"}
        new: DeliveryRow = replace(row, **batch)  # type: ignore[arg-type]
        node.store.deliveries.add([new])


@manipulation("a batch with a receipt is invented in the store", "store.deliveries")
def _(copy: Copy) -> None:
    make_up(copy)


@manipulation("a receipt for an invented batch is put into the store", "store.receipts")
def _(copy: Copy) -> None:
    copy.sql(
        "UPDATE receipts SET batch_no = '2026010100001' WHERE resource_name = 'firms'"
        " AND batch_no = (SELECT max(batch_no) FROM receipts WHERE resource_name = 'firms')"
    )


@manipulation("a batch without its receipt in the log is set receipted", "store.deliveries")
def _(copy: Copy) -> None:
    copy.log.cut(RECEIPTS, 0)


@manipulation("a batch with a receipt is set refused", "store.deliveries")
def _(copy: Copy) -> None:
    copy.sql("UPDATE deliveries SET delivery_state = 'refused' WHERE resource_name = 'firms'")


@manipulation("a delivery is removed from the store", "store.deliveries")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM deliveries WHERE resource_name = 'firms'")


@manipulation("the store shows fewer rows of a pull", "store.pulls")
def _(copy: Copy) -> None:
    copy.sql("UPDATE pulls SET rows_pulled = rows_pulled - 1")


@manipulation("a delivery that waits is set refused", "store.deliveries")
def _(copy: Copy) -> None:
    pull(copy, "seal")
    copy.sql("UPDATE deliveries SET delivery_state = 'refused' WHERE delivery_state = 'pending'")


@manipulation("a delivery that waits is set halted", "store.deliveries")
def _(copy: Copy) -> None:
    pull(copy, "seal")
    copy.sql("UPDATE deliveries SET delivery_state = 'halted' WHERE delivery_state = 'pending'")


@manipulation("a batch with a receipt is put back by hand", "store.deliveries")
def _(copy: Copy) -> None:
    copy.sql("UPDATE deliveries SET delivery_state = 'pending' WHERE resource_name = 'firms'")


@manipulation("a delivery shows the number of another receipt", "store.deliveries")
def _(copy: Copy) -> None:
    copy.sql("UPDATE deliveries SET receipt_no = 'R20261123-0' WHERE resource_name = 'firms'")


@manipulation("a receipt's row counts other records", "store.receipts")
def _(copy: Copy) -> None:
    copy.sql("UPDATE receipts SET rows_accepted = 1 WHERE resource_name = 'firms'")


@manipulation("a pull is removed from the store", "store.pulls")
def _(copy: Copy) -> None:
    copy.sql(
        "DELETE FROM pulls WHERE resource_name = 'cases' AND pull_id ="
        " (SELECT min(pull_id) FROM pulls WHERE resource_name = 'cases')"
    )


@manipulation("a pull is said to come from another source", "store.pulls")
def _(copy: Copy) -> None:
    copy.sql("UPDATE pulls SET source_name = 'other' WHERE resource_name = 'firms'")


@manipulation("a pull is invented in the store", "store.pulls")
def _(copy: Copy) -> None:
    with copy.node() as node:
        (row, *_) = node.store.pulls.find(source="cases")
        node.store.pulls.save(replace(row, pull="20261101T000000-00000000"))


@manipulation("the time of a refusal is changed in the index", "store.quarantine")
def _(copy: Copy) -> None:
    copy.sql("UPDATE quarantine SET created_at = '2026-01-01T00:00:00.000Z'")


@manipulation("a dismissal is undone in the store", "store.decisions")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM quarantine_rows WHERE row_state = 'dismissed'")
    copy.sql("UPDATE quarantine SET dismissed = 0 WHERE dismissed > 0")


@manipulation("a dismissed record is set settled", "store.decisions")
def _(copy: Copy) -> None:
    copy.sql("UPDATE quarantine SET settled = dismissed, dismissed = 0 WHERE dismissed > 0")
    copy.sql(
        "UPDATE quarantine_rows SET row_state = 'settled', touched_by = 'exchange'"
        " WHERE row_state = 'dismissed'"
    )


# --- after a retention --------------------------------------------------------------------


def retain(copy: Copy, *kinds: TopicKind) -> None:
    """Remove what is old and done with, as the command does; the evidence log follows."""
    later = now() + timedelta(days=40)
    with copy.place.node(clock=lambda: later) as node:
        every = Selection(addresses=tuple(f"cases/0/{n}" for n in range(9)))
        dismiss(node.context, node.store, "cases", every, by="wang", reason="过期")
        removals = plan_retention(node, "cases", timedelta(days=30), kinds)
        assert all(removal.count for removal in removals)
        remove(node, "cases", removals, by="wang")
        work(node, "evidence")


@manipulation("after a retention, a receipt is removed as if it had never been", "evidence.batches")
def _(copy: Copy) -> None:
    retain(copy, "sealed")
    copy.log.cut(RECEIPTS, last(copy, RECEIPTS).offset)


@manipulation("after a retention, a receipt of a removed batch is replaced", "receipts.seal")
def _(copy: Copy) -> None:
    retain(copy, "sealed")
    row = next(row for row in copy.log.entries(RECEIPTS) if row.key.startswith("cases/"))
    copy.log.edit(RECEIPTS, row, value=forged(copy, row))


@manipulation("after a retention, a removed batch is set refused", "store.deliveries")
def _(copy: Copy) -> None:
    retain(copy, "sealed")
    copy.sql("UPDATE deliveries SET delivery_state = 'refused' WHERE resource_name = 'cases'")


@manipulation("after a retention, a pull is removed from the store", "store.pulls")
def _(copy: Copy) -> None:
    retain(copy, "sealed")
    copy.sql(
        "DELETE FROM pulls WHERE resource_name = 'cases' AND pull_id ="
        " (SELECT min(pull_id) FROM pulls WHERE resource_name = 'cases')"
    )


@manipulation("after a retention, rows of a later pull are removed before sealing", "pulls.rows")
def _(copy: Copy) -> None:
    retain(copy, "raw")
    pull(copy)
    shorten(copy, last(copy, RAW), 49)


@manipulation("after a retention, more messages are removed than it says", "log.entries")
def _(copy: Copy) -> None:
    retain(copy, "raw")
    pull(copy, "seal")
    copy.log.drop(RAW, last(copy, RAW).offset)
    copy.log.run("UPDATE shard SET first = next WHERE topic = ?", RAW)


@manipulation("messages are removed with a line in the trail, and no evidence", "log.entries")
def _(copy: Copy) -> None:
    end = last(copy, RAW).offset + 1
    with copy.node() as node:
        detail = {"removed": [f"{RAW}/0: 0-{end - 1}"], "entries": 1, "digest": "sm3:" + "0" * 64}
        node.store.audit.append("wang", "log.retain", "cases", json.dumps(detail))
        node.log.retain(RAW, 0, end)
        work(node, "evidence")


@manipulation("a retention says that fewer batches were removed", "evidence.retention")
def _(copy: Copy) -> None:
    end = last(copy, SEALED).offset + 1
    with copy.node() as node:
        entries = list(removal_entries(node.log, log_identity(node.context), (SEALED, 0), (0, end)))
        lying = [replace(entry, count=entry.count - 1) for entry in entries[:1]] + entries[1:]
        detail = {"removed": [f"{SEALED}/0: 0-{end - 1}"]}
        node.store.audit.append("wang", "log.retain", "cases", json.dumps(detail))
        append_entries(node.log, lying)
        node.log.retain(SEALED, 0, end)
        work(node, "evidence")


@manipulation("a retention says that fewer rows of a pull were removed", "evidence.pulls")
def _(copy: Copy) -> None:
    end = last(copy, RAW).offset + 1
    with copy.node() as node:
        entries = list(removal_entries(node.log, log_identity(node.context), (RAW, 0), (0, end)))
        lying = [replace(entry, rows=entry.rows - 1) for entry in entries]
        detail = {"removed": [f"{RAW}/0: 0-{end - 1}"]}
        node.store.audit.append("wang", "log.retain", "cases", json.dumps(detail))
        append_entries(node.log, lying)
        node.log.retain(RAW, 0, end)
        work(node, "evidence")


@manipulation("after a retention, a row of a removed message leaves the index", "store.quarantine")
def _(copy: Copy) -> None:
    retain(copy, "quarantine")
    copy.sql("DELETE FROM quarantine_rows WHERE log_topic = ? AND log_offset = 0", QUARANTINE)
    copy.sql("DELETE FROM quarantine WHERE log_topic = ? AND log_offset = 0", QUARANTINE)


# --- audit trail --------------------------------------------------------------------------


@manipulation("a line of the audit trail is edited", "trail.chain")
def _(copy: Copy) -> None:
    copy.sql("UPDATE audit_trail SET actor_name = 'li' WHERE entry_no = 1")


def rewrite_trail(copy: Copy, keep: int) -> None:
    """Write the trail anew, with a chain that holds."""
    with copy.node() as node:
        rows = node.store.audit.find()
    copy.sql("DELETE FROM audit_trail")
    with copy.node() as node:
        for row in rows[:keep]:
            node.store.audit.append("li", row.action, row.subject, row.detail)


@manipulation("the audit trail is edited and its chain made anew", "evidence.trail")
def _(copy: Copy) -> None:
    rewrite_trail(copy, keep=99)


@manipulation("the last line of the audit trail is removed", "evidence.trail")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM audit_trail WHERE entry_no = (SELECT max(entry_no) FROM audit_trail)")


@manipulation("the audit trail is emptied", "evidence.trail")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM audit_trail")


# --- catalog and schemas ------------------------------------------------------------------


@manipulation("a released schema is edited", "schemas.released")
def _(copy: Copy) -> None:
    path = copy.folder / "schemas" / "cases-v1.avsc"
    path.write_text(path.read_text().replace('"no"', '"number"'))


@manipulation("a released schema is removed", "batches.schema")
def _(copy: Copy) -> None:
    (copy.folder / "schemas" / "cases-v1.avsc").unlink()


@manipulation("the applied catalog is edited", "catalog.applied")
def _(copy: Copy) -> None:
    path = copy.folder / "data" / APPLIED
    path.write_text(path.read_text().replace("测试资源", "其他资源"))


@manipulation("the applied catalog is edited and its digest made anew", "catalog.applied")
def _(copy: Copy) -> None:
    path = copy.folder / "data" / APPLIED
    text = path.read_text().replace("测试资源", "其他资源")
    changed = Catalog.model_validate_json(text)
    changed = changed.model_copy(update={"digest": catalog_digest(changed)})
    path.write_text(changed.model_dump_json(indent=1))


@manipulation("the applied catalog is removed", "catalog.applied")
def _(copy: Copy) -> None:
    (copy.folder / "data" / APPLIED).unlink()


# --- evidence log -------------------------------------------------------------------------


@manipulation("an entry of the evidence log is changed", "evidence.log.tiles")
def _(copy: Copy) -> None:
    bundles = [path for path in (copy.evidence / "tile/entries").rglob("*") if path.is_file()]
    bundle = max(bundles, key=lambda path: int(path.name))
    data = bundle.read_bytes()
    at = data.index(b"sm3:") + 4
    digit = b"1" if data[at : at + 1] == b"0" else b"0"
    bundle.write_bytes(data[:at] + digit + data[at + 1 :])


def rewrite_evidence(copy: Copy, *, topic: bool) -> None:
    """Cut from the last refused messages on; make folder and checkpoint anew with every key."""
    reader = LogReader.at(copy.evidence)
    entries = [reader.entry(index) for index in range(reader.size)]
    topic_name = f'"topic":"{QUARANTINE}"'.encode()
    del entries[max(index for index, entry in enumerate(entries) if topic_name in entry) :]
    origin = reader.origin
    shutil.rmtree(copy.evidence)
    with EvidenceLog.open(copy.evidence, origin=origin) as log, copy.node() as node:
        log.append(entries)
        log.checkpoint(node.seals.of_evidence(), node.clock())
    if topic:
        copy.log.cut(EVIDENCE, 1)
        copy.log.edit(EVIDENCE, copy.log.entries(EVIDENCE)[0], value=b"\n".join(entries))


@manipulation("the evidence log is cut and signed anew", "evidence.log.known", KNOWN)
def _(copy: Copy) -> None:
    rewrite_evidence(copy, topic=True)


@manipulation("the evidence log is cut together with its topic", "evidence.quarantine")
def _(copy: Copy) -> None:
    rewrite_evidence(copy, topic=True)


@manipulation("the topic of the evidence log has another order", "evidence.batches")
def _(copy: Copy) -> None:
    row = copy.log.entries(EVIDENCE)[0]
    lines = row.value.split(b"\n")
    other = copy.log.entries(EVIDENCE)[1]
    copy.log.edit(EVIDENCE, row, value=other.value)
    copy.log.edit(EVIDENCE, other, value=b"\n".join(lines))


@manipulation("the folder of the evidence log is removed", "evidence.log.head")
def _(copy: Copy) -> None:
    shutil.rmtree(copy.evidence)


@manipulation("a witness's line is taken from the newest checkpoint", "evidence.log.witnessed")
def _(copy: Copy) -> None:
    path = copy.evidence / "witnessed"
    note = SignedNote.from_bytes(path.read_bytes())
    path.write_bytes(replace(note, witnesses=()).to_bytes())


@manipulation("all checkpoints of the evidence log are removed", "evidence.checkpoints")
def _(copy: Copy) -> None:
    for name in ("checkpoint", "witnessed"):
        (copy.evidence / name).unlink()
    shutil.rmtree(copy.evidence / "checkpoints")


@manipulation("the newest checkpoints of the evidence log are removed", "evidence.checkpoints")
def _(copy: Copy) -> None:
    files = [path for path in (copy.evidence / "checkpoints").rglob("*") if path.is_file()]
    oldest, *rest = sorted(files, key=lambda path: SignedNote.from_bytes(
        path.read_bytes()).checkpoint.head.size)  # fmt: skip
    assert rest
    for path in rest:
        path.unlink()
    for name in ("checkpoint", "witnessed"):
        (copy.evidence / name).write_bytes(oldest.read_bytes())


# --- lost and older parts -----------------------------------------------------------------


@manipulation("the log is lost", "log.file")
def _(copy: Copy) -> None:
    copy.log.path.unlink()


@manipulation("the log is replaced by an empty one", "evidence.identity")
def _(copy: Copy) -> None:
    copy.log.path.unlink()
    with copy.node() as node, closing(EmbeddedLog(copy.log.path, clock=now)) as log:
        log.ensure(common_topics(node.settings))  # a node makes none in its place


@manipulation("the log is an older one", "evidence.batches")
def _(copy: Copy) -> None:
    shutil.copy(copy.older / "log.db", copy.log.path)


@manipulation("the write-ahead log is removed", "evidence.batches")
def _(copy: Copy) -> None:
    add(copy.place, "cases", records(50, first=1_001))
    data = copy.folder / "data"
    with copy.node() as node:
        work(node, "pull", "seal", "evidence")
        saved = {path.name: path.read_bytes() for path in data.glob("log.db*")}
    assert len(saved["log.db-wal"]) > 0
    for path in data.glob("log.db*"):
        path.unlink()
    copy.log.path.write_bytes(saved["log.db"])


@manipulation("the write-ahead log is cut", "evidence.batches")
def _(copy: Copy) -> None:
    add(copy.place, "cases", records(50, first=1_001))
    data = copy.folder / "data"
    with copy.node() as node:
        work(node, "pull", "seal", "evidence")
        saved = {path.name: path.read_bytes() for path in data.glob("log.db*")}
    for path in data.glob("log.db*"):
        path.unlink()
    copy.log.path.write_bytes(saved["log.db"])
    whole = saved["log.db-wal"]
    (data / "log.db-wal").write_bytes(whole[: len(whole) // 2])


@manipulation("the store is lost", "store.deliveries")
def _(copy: Copy) -> None:
    for path in (copy.folder / "data").glob("store.db*"):
        path.unlink()


@manipulation("the store is an older one", "store.deliveries")
def _(copy: Copy) -> None:
    shutil.copy(copy.older / "store.db", copy.folder / "data" / "store.db")


@manipulation("the receiver's database is lost", "received.files", RECEIVER)
def _(copy: Copy) -> None:
    (copy.folder / "province" / "received.db").unlink()


@manipulation("files that the receiver took are lost", "received.rows", RECEIVER)
def _(copy: Copy) -> None:
    shutil.rmtree(copy.folder / "province" / "received")
    (copy.folder / "province" / "received").mkdir()


@manipulation("a file that the receiver took is changed", "received.rows", RECEIVER)
def _(copy: Copy) -> None:
    path = next((copy.folder / "province" / "received").rglob("*.avro"))
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


@manipulation("a row of the receiver is removed", "received.files", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql(
        "DELETE FROM received_batches WHERE resource_name = 'firms'", store="province/received.db"
    )


@manipulation("a receipt of the receiver is changed", "received.rows", RECEIVER)
def _(copy: Copy) -> None:
    settings = load(copy.folder / "province" / "exchange.yaml")
    assert settings.receiver is not None
    with Node(settings) as receiver:
        sealer = receiver.seals.open(settings.receiver.seal)
    row = last(copy, RECEIPTS)
    receipt = replace(receipts.read(row.value), rows_sent=1, rows_accepted=1)
    content = receipts.issue(receipt, sealer, receiver.clock())
    copy.sql("UPDATE received_batches SET receipt = ?", content, store="province/received.db")


@manipulation("the audit trail is cut, and says that fewer lines were lost", "evidence.trail")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM audit_trail WHERE entry_no > 2")
    with copy.node() as node:
        audit = node.store.audit
        number, digest = audit.head()
        (first,) = audit.find(limit=1)
        gap = {"trail": first.digest, "number": 3, "digest": digest, "kept": number}
        audit.append("wang", RECOVERED, "", json.dumps(gap | {"head": digest}))


# --- the register of seals ----------------------------------------------------------------


def cancelled(copy: Copy) -> None:
    """Cancel the department's seal as a person does; the stage of the evidence log follows."""
    with copy.node() as node:
        SealAdministration(node, "wang").take("data", Step.CANCEL, "单位撤销")
        with closing(node.evidence_stage()) as stage:
            while stage.step() is not None:
                pass


@manipulation("a cancelled seal is set in use again in the store", "store.seals")
def _(copy: Copy) -> None:
    cancelled(copy)
    copy.sql("UPDATE seals SET seal_state = 'in_use', reason_text = NULL")


@manipulation("a seal is removed from the store's register", "store.seals")
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM seals")


@manipulation("a seal that nobody registered is put into the store's register", "store.seals")
def _(copy: Copy) -> None:
    copy.sql(
        "INSERT INTO seals (es_id, seal_name, seal_state, updated_at, version_no)"
        " VALUES ('23270099999999', 'data', 'in_use', '2026-11-23T01:02:03.004Z', 1)"
    )


@manipulation("the cancellation of a seal is cut from the log", "evidence.seals")
def _(copy: Copy) -> None:
    cancelled(copy)
    copy.log.cut(SEALS, last(copy, SEALS).offset)


@manipulation("the cancellation of a seal becomes its suspension", "evidence.seals")
def _(copy: Copy) -> None:
    cancelled(copy)
    row = last(copy, SEALS)
    copy.log.edit(SEALS, row, value=row.value.replace(b"cancelled", b"suspended"))


@manipulation("a cancelled seal is resumed by a step that there is not", "seals.steps")
def _(copy: Copy) -> None:
    cancelled(copy)
    value = json.loads(last(copy, SEALS).value) | {"step": "resume"}
    value["seal"] |= {"state": "in_use", "version": value["seal"]["version"] + 1}
    row = last(copy, SEALS)
    copy.log.append(SEALS, replace(row, value=json.dumps(value, ensure_ascii=False).encode()))


PROVINCE = "province/received.db"


def take_last(copy: Copy) -> None:
    """Remove the newest batch of a resource from the receiver: row and file."""
    with closing(sqlite3.connect(copy.folder / PROVINCE)) as database:
        ((path,),) = database.execute(
            "SELECT file_path FROM received_batches WHERE resource_name = 'cases'"
            " ORDER BY batch_no DESC LIMIT 1"
        ).fetchall()
    (copy.folder / "province" / "received" / path).unlink()
    copy.sql("DELETE FROM received_batches WHERE file_path = ?", path, store=PROVINCE)


@manipulation("a batch leaves the receiver, row and file", "received.trail", RECEIVER)
def _(copy: Copy) -> None:
    take_last(copy)


@manipulation("a batch leaves the receiver whose receipt others have", "received.known", HELD)
def _(copy: Copy) -> None:
    take_last(copy)


@manipulation("a batch in the middle leaves the receiver", "received.chain", RECEIVER)
def _(copy: Copy) -> None:
    with closing(sqlite3.connect(copy.folder / PROVINCE)) as database:
        rows = database.execute(
            "SELECT file_path FROM received_batches WHERE resource_name = 'cases' ORDER BY batch_no"
        ).fetchall()
    path = rows[1][0]
    (copy.folder / "province" / "received" / path).unlink()
    copy.sql("DELETE FROM received_batches WHERE file_path = ?", path, store=PROVINCE)


@manipulation("a batch the receiver took counts other rows", "received.rows", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql("UPDATE received_batches SET row_count = row_count - 1", store=PROVINCE)


@manipulation("a batch the receiver took gets another sender", "received.trail", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql(
        "UPDATE received_batches SET sender_id = 'other' WHERE resource_name = 'firms'",
        store=PROVINCE,
    )


@manipulation("a batch the receiver took gets another time", "received.rows", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql("UPDATE received_batches SET received_at = '2026-01-01T00:00:00.000Z'",
             store=PROVINCE)  # fmt: skip


@manipulation("a chain of the receiver goes back to an earlier batch", "received.chain", RECEIVER)
def _(copy: Copy) -> None:
    with closing(sqlite3.connect(copy.folder / PROVINCE)) as database:
        ((statement, number),) = database.execute(
            "SELECT statement_digest, batch_no FROM received_batches"
            " WHERE resource_name = 'cases' ORDER BY batch_no LIMIT 1"
        ).fetchall()
    copy.sql(
        "UPDATE received_chains SET statement_digest = ?, batch_no = ?"
        " WHERE resource_name = 'cases'",
        *(statement, number),
        store=PROVINCE,
    )


@manipulation("a chain of the receiver is removed", "received.chain", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM received_chains WHERE resource_name = 'cases'", store=PROVINCE)


@manipulation("a statement is let in without a line in the trail", "received.trail", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql(
        "INSERT INTO admissions (statement_digest, reason, actor_name, admitted_at)"
        " VALUES ('ff', 'x', 'wang', '2026-12-01T00:00:00.000Z')",
        store=PROVINCE,
    )


@manipulation("a line of the receiver's audit trail is edited", "received.trail", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql("UPDATE audit_trail SET actor_name = 'li' WHERE entry_no = 1", store=PROVINCE)


@manipulation("the receiver's audit trail is emptied", "received.witness", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM audit_trail", store=PROVINCE)
    copy.sql("UPDATE witnessed_logs SET log_size = log_size - 1", store=PROVINCE)


@manipulation("what the receiver has witnessed goes back", "received.witness", RECEIVER)
def _(copy: Copy) -> None:
    with closing(sqlite3.connect(copy.folder / PROVINCE)) as database:
        ((note,),) = database.execute("SELECT note FROM witnessed_logs").fetchall()
    before = Checkpoint.from_bytes(note)
    head = Head(before.head.origin, before.head.size - 1, bytes(32))
    data = replace(before, head=head).to_bytes()
    copy.sql("UPDATE witnessed_logs SET log_size = ?, note = ?", head.size, data, store=PROVINCE)


@manipulation("what the receiver has witnessed is removed", "received.witness", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM witnessed_logs", store=PROVINCE)


@manipulation("what a caller showed last is removed", "received.witness", RECEIVER)
def _(copy: Copy) -> None:
    copy.sql("DELETE FROM witnessed", store=PROVINCE)


# --- one byte -----------------------------------------------------------------------------


def flipped(topic: str, *, part: str) -> Manipulate:
    """Flip a bit in the first entry of a topic."""

    def do(copy: Copy) -> None:
        row = copy.log.entries(topic)[-1]
        if part == "value":
            copy.log.flip(row.value[-24:])
        elif part == "key":
            copy.log.flip(row.key.encode(), at=1)
        else:
            text = json.dumps(row.headers, ensure_ascii=False).encode()
            copy.log.flip(text[:40], at=3)

    return do


for _topic, _part in (
    (RAW, "value"), (RAW, "headers"),
    (SEALED, "value"), (SEALED, "headers"), (SEALED, "key"),
    (QUARANTINE, "value"), (QUARANTINE, "headers"),
    (RECEIPTS, "value"), (RECEIPTS, "headers"), (RECEIPTS, "key"),
    (EVIDENCE, "value"), (SEALS, "value"), (CURSORS, "value"), (CURSORS, "key"),
):  # fmt: skip
    _name = _topic.removeprefix("exchange.").removesuffix(".cases")
    manipulation(f"a bit in the {_part} of an entry of `{_name}` flips", "log.entries")(
        flipped(_topic, part=_part)
    )


@manipulation("a bit in the time of an entry flips", "log.entries")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE entry SET time = time + 1 WHERE id = (SELECT min(id) FROM entry)")


@manipulation("a bit in the checksum of an entry flips", "log.entries")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE entry SET crc = crc + 1 WHERE id = (SELECT max(id) FROM entry)")


@manipulation("a bit in the address of an entry flips", "log.entries")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE entry SET id = id + 1000 WHERE id = (SELECT max(id) FROM entry)")


@manipulation("a bit in the end of a partition flips", "log.file")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE shard SET next = next - 1 WHERE topic = ?", RAW)


@manipulation("a bit in the beginning of a partition flips", "log.file")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE shard SET first = 1 WHERE topic = ?", RECEIPTS)


@manipulation("a bit in the position of sealing flips", "log.positions")
def _(copy: Copy) -> None:
    copy.log.run(
        "UPDATE position SET next = next - 1 WHERE member = 'seal' AND shard ="
        " (SELECT id FROM shard WHERE topic = ?)",
        RAW,
    )


@manipulation("a bit in the position of delivery flips", "log.positions")
def _(copy: Copy) -> None:
    copy.log.run(
        "UPDATE position SET next = next - 1 WHERE member = 'cascade' AND shard ="
        " (SELECT id FROM shard WHERE topic = ?)",
        SEALED,
    )


@manipulation("a bit in a position flips to beyond the end", "log.file")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE position SET next = next + 4096 WHERE member = 'evidence'")


@manipulation("a bit in the address of a newest state flips", "log.file")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE newest SET id = id + 1 WHERE key = 'pull/cases'")


@manipulation("a bit in the name of a topic flips", "log.entries")
def _(copy: Copy) -> None:
    copy.log.run("UPDATE shard SET topic = 'exchange.sealed.caseS' WHERE topic = ?", SEALED)


@manipulation("a bit in the head of a page flips", "log.file")
def _(copy: Copy) -> None:
    data = bytearray(copy.log.path.read_bytes())
    size = int.from_bytes(data[16:18])
    assert data[size] in {2, 5, 10, 13}, "the kinds of pages of a tree"
    data[size] ^= 1
    copy.log.path.write_bytes(data)


@manipulation("a bit in the head of the file flips", "log.file")
def _(copy: Copy) -> None:
    data = bytearray(copy.log.path.read_bytes())
    data[3] ^= 1
    copy.log.path.write_bytes(data)
