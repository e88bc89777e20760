"""The receiving side: what it has answered and witnessed, against files, chains and its trail.

Chains and rows are read before the trail: what comes in meanwhile has its line there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.audit.findings import Findings
from exchange.errors import Integrity
from exchange.evidence.checkpoint import Checkpoint, Head
from exchange.evidence.entry import bytes_digest
from exchange.receipt import Receipt, SentBatch
from exchange.receipt import check as check_receipt
from exchange.receipt import read as read_receipt
from exchange.seal.batch.statement import Statement
from exchange.seal.batch.verify import verify_batch
from exchange.seal.pki.trust import Trust
from exchange.store.columns import as_kept
from exchange.store.receiver.batches import RECEIVED_LINE, ReceivedBatchRow, received_detail
from exchange.store.receiver.checkpoints import WITNESSED_LINE, witnessed_detail

if TYPE_CHECKING:
    from exchange.store.audit import AuditRow
    from exchange.store.database import Store
    from exchange.store.receiver.batches import ChainRow

_BATCH = ".avro"
_OWN = frozenset({
    *("format", "code", "batch", "statement", "root", "counts", "time"),
    *("signature.format", "signature.digest", "signature.value"),
})  # fmt: skip
"""Checks of a receipt that need no trust."""
_ADMIT: Final = "receiver.admit"


class _Place(NamedTuple):
    """Whose chain: department, resource, partition and sender."""

    department: str
    resource: str
    partition: int
    sender: str


@dataclass
class _Known:
    """What is kept of the batches of one resource until its chains are compared."""

    statements: dict[str, Statement] = field(default_factory=dict)
    """By digest."""
    senders: dict[str, set[str]] = field(default_factory=dict)
    """Who has delivered a statement, by digest."""


@dataclass
class _Received:
    """One audit of what a receiver keeps."""

    store: Store
    folder: Path
    trust: Trust
    findings: Findings
    files: set[str]
    """Files that no row has named yet."""
    seen: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """What the trail has to say of each row: by sender, address and version."""
    heads: dict[str, Head] = field(default_factory=dict)
    """The longest state of each evidence log that a receipt names."""
    loose: set[_Place] = field(default_factory=set)
    """Chains of which something stands apart from the rest."""

    # --- batches --------------------------------------------------------------------------

    def batches(self) -> int:
        """Check rows, files, receipts and chains; return how many batches there are."""
        chains: dict[tuple[str, str], list[ChainRow]] = {}
        for chain in self.store.received_batches.chains():
            chains.setdefault((chain.department, chain.resource), []).append(chain)
        count = 0
        walk = self.store.received_batches.walk()
        for key, rows in groupby(walk, key=lambda row: (row.department, row.resource)):
            known = _Known()
            for row in rows:
                count += 1
                self._row(row, known)
            self._chains(known, chains.pop(key, []))
        for rest in chains.values():
            for chain in rest:
                where = f"{chain.department}/{chain.resource}/{chain.partition} of {chain.sender}"
                self.findings.fault("received.chain", where, chain.statement, "no batch of it")
        return count

    def _row(self, row: ReceivedBatchRow, known: _Known) -> None:
        findings = self.findings
        where = f"{row.department}/{row.resource}/{row.batch_no}"
        self.seen[row.sender, where, str(row.version)] = received_detail(row)
        if row.path not in self.files:
            findings.fault("received.rows", where, row.path, "no file")
            return
        self.files.discard(row.path)
        verified = verify_batch((self.folder / row.path).read_bytes(), trust=self.trust)
        for check in verified.failed:
            at = f"{row.path} {check.name}"
            findings.fault("received.rows", at, check.expected, check.found)
        statement = verified.statement
        if statement is None:
            return
        known.statements[statement.digest] = statement
        known.senders.setdefault(statement.digest, set()).add(row.sender)
        stated = {
            "department": statement.department,
            "resource": statement.resource,
            "batch_no": statement.batch_no,
            "statement": statement.digest,
            "rows": statement.rows,
        }
        for name, expected in stated.items():
            findings.equal("received.rows", f"{where} {name}", expected, getattr(row, name))
        self._receipt(where, row, statement)

    def _receipt(self, where: str, row: ReceivedBatchRow, statement: Statement) -> None:
        findings = self.findings
        batch = SentBatch.of(statement)
        for check in check_receipt(row.receipt, trust=Trust(()), batch=batch).failed:
            if check.name in _OWN:
                at = f"receipt of {where} {check.name}"
                findings.fault("received.rows", at, check.expected, check.found)
        try:
            receipt = read_receipt(row.receipt)
        except Integrity:
            return  # told by its checks
        findings.equal("received.rows", f"{where} receipt_no", receipt.receipt_no, row.receipt_no)
        received = as_kept(datetime.fromisoformat(receipt.received_at))
        findings.equal("received.rows", f"{where} received_at", received, row.received_at)
        self._head(receipt)

    def _head(self, receipt: Receipt) -> None:
        if not receipt.log:
            return
        origin, size, root = receipt.log.split(" ")
        head = Head(origin, int(size), bytes.fromhex(root))
        known = self.heads.get(origin)
        if known is None or head.size > known.size:
            self.heads[origin] = head

    def _chains(self, known: _Known, chains: list[ChainRow]) -> None:
        """Walk each chain from its newest statement back: every batch of its sender is in it."""
        reached: dict[_Place, set[str]] = {}
        for chain in chains:
            place = _Place(chain.department, chain.resource, chain.partition, chain.sender)
            reached[place] = self._walk(place, chain, known)
        for digest, statement in known.statements.items():
            for sender in known.senders[digest]:
                place = _Place(statement.department, statement.resource, statement.lane, sender)
                if digest not in reached.get(place, set()):
                    self.loose.add(place)

    def _walk(self, place: _Place, chain: ChainRow, known: _Known) -> set[str]:
        where = "{}/{}/{} of {}".format(*place)
        newest = known.statements.get(chain.statement)
        if newest is None:
            self.findings.fault("received.chain", where, chain.statement, "no batch of it")
            return set()
        for name in ("batch_no", "sealed_at"):
            expected = getattr(newest, name)
            self.findings.equal("received.chain", f"{where} {name}", expected, getattr(chain, name))
        reached: set[str] = set()
        digest = chain.statement
        while digest in known.statements and digest != chain.missing and digest not in reached:
            reached.add(digest)
            digest = known.statements[digest].previous
        if digest != chain.missing:
            expected = chain.missing or "its first batch"
            self.findings.fault("received.chain", where, expected, f"{digest or '-'}, not here")
        return reached

    # --- the trail ------------------------------------------------------------------------

    def trail(self) -> None:
        """Check the chain of the trail, and that rows, admissions and states are as it says."""
        lines: dict[tuple[str, str, str], str] = {}
        admitted: dict[str, int] = {}
        witnessed: dict[str, list[str]] = {}
        shown: dict[tuple[str, str], str] = {}
        begun: datetime | None = None
        opened: set[tuple[str, str]] = set()
        for row, sound in self.store.audit.walk():
            if not sound:
                at = f"line {row.number}"
                self.findings.fault("received.trail", at, "continues the chain", "it does not")
            if row.action == RECEIVED_LINE:
                begun = begun or row.at
                lines[row.actor, row.subject, _version(row)] = row.detail
            elif row.action == "receiver.admitted":
                opened.add((row.actor, row.subject.rpartition("/")[0]))
            elif row.action == _ADMIT:
                admitted[row.subject] = admitted.get(row.subject, 0) + 1
            elif row.action == WITNESSED_LINE:
                witnessed.setdefault(row.subject, []).append(row.detail)
                shown[row.actor, row.subject] = row.detail
        self._compare_lines(lines, begun)
        self._compare_admissions(admitted)
        self._compare_loose(begun, opened)
        self._witness(witnessed, shown)

    def _compare_lines(
        self, lines: Mapping[tuple[str, str, str], str], begun: datetime | None
    ) -> None:
        for key, detail in lines.items():
            where = f"{key[1]} of {key[0]}"
            row = self.seen.get(key)
            if row is None:
                row = self._late(key)
            if row is None:
                self.findings.fault("received.trail", where, "a row in the store", "none")
            else:
                self.findings.equal("received.trail", where, detail, row)
        for sender, where, version in self.seen.keys() - lines.keys():
            if begun is not None:
                self._unlisted(sender, where, version, begun)

    def _late(self, key: tuple[str, str, str]) -> str | None:
        """Look at a row that came while the others were read."""
        sender, where, version = key
        for row in self.store.received_batches.numbered(*where.split("/")):
            if (row.sender, str(row.version)) == (sender, version):
                return received_detail(row)
        return None

    def _unlisted(self, sender: str, where: str, version: str, begun: datetime) -> None:
        """Judge a row without a line: a former version wrote none."""
        for row in self.store.received_batches.numbered(*where.split("/")):
            if (row.sender, str(row.version)) == (sender, version) and row.received_at >= begun:
                at = f"{where} of {sender}"
                self.findings.fault("received.trail", at, "a line in the audit trail", "none")

    def _compare_admissions(self, admitted: dict[str, int]) -> None:
        rows = {row.statement: row for row in self.store.received_batches.admissions()}
        for statement in admitted.keys() - rows.keys():
            if self.store.received_batches.admission(statement) is None:
                self.findings.fault("received.trail", statement, "its admission", "none")
        for statement in rows.keys() - admitted.keys():
            expected = "a line of the audit trail: who let it in, and why"
            self.findings.fault("received.trail", statement, expected, "none")

    def _compare_loose(self, begun: datetime | None, opened: set[tuple[str, str]]) -> None:
        """Judge chains of which something stands apart: a person may have begun one anew."""
        for place in sorted(self.loose):
            address = f"{place.department}/{place.resource}"
            where = "{}/{}/{} of {}".format(*place)
            if begun is None or (place.sender, address) in opened:
                text = f"{where}: begun anew, or before there were chains"
                self.findings.note("received.chain", text)
            else:
                expected = "every batch in the chain of its sender"
                self.findings.fault("received.chain", where, expected, "some are not")

    def known(self, province: str, files: Sequence[bytes]) -> None:
        """Check that receipts which others have are kept here, to the byte."""
        for data in files:
            try:
                receipt = read_receipt(data)
            except Integrity:
                continue  # a checkpoint, or no receipt: the audit of the evidence log says so
            if receipt.province != province:
                continue
            row = self.store.received_batches.answered(receipt.receipt_no)
            where = f"receipt {receipt.receipt_no} of {receipt.resource}/{receipt.batch_no}"
            if row is None:
                self.findings.fault("received.known", where, "its batch", "none")
            else:
                expected, found = bytes_digest(data), bytes_digest(row.receipt)
                self.findings.equal("received.known", where, expected, found)

    # --- the witness ----------------------------------------------------------------------

    def _witness(
        self, witnessed: Mapping[str, list[str]], shown: Mapping[tuple[str, str], str]
    ) -> None:
        check, findings = "received.witness", self.findings
        states = self.store.witnessed_checkpoints
        logs = {row.origin: row for row in states.logs()}
        for origin, row in logs.items():
            head = _head_of(row.note)
            if head is None or (head.origin, head.size) != (origin, row.size):
                findings.fault(check, origin, f"a checkpoint of {row.size} entries", str(head))
                continue
            lines = witnessed.get(origin, [])
            now = witnessed_detail(head.size, head.root)
            if lines and now != lines[-1] and not self._is_later(origin, now):
                findings.fault(check, origin, f"the state signed last, {lines[-1]}", now)
        for origin in (witnessed.keys() | self.heads.keys()) - logs.keys():
            findings.fault(check, origin, "its newest state", "none")
        for origin, lines in witnessed.items():
            sizes = [int(json.loads(line)["size"]) for line in lines]
            if sizes != sorted(sizes):
                findings.fault(check, origin, "states that only grow", "one went back")
        for origin, head in self.heads.items():
            if origin in logs and logs[origin].size < head.size:
                expected = f"{head.size} entries, as a receipt says"
                findings.fault(check, origin, expected, f"{logs[origin].size}")
        self._shown(shown)

    def _is_later(self, origin: str, state: str) -> bool:
        """Tell whether a state was signed while the trail was read."""
        lines = [r for r in self.store.audit.find(subject=origin, limit=1_000_000)
                 if r.action == WITNESSED_LINE]  # fmt: skip
        return bool(lines) and lines[-1].detail == state

    def _shown(self, shown: Mapping[tuple[str, str], str]) -> None:
        check, findings = "received.witness", self.findings
        rows = {(row.sender, row.origin): row for row in self.store.witnessed_checkpoints.shown()}
        for (sender, origin), row in rows.items():
            head = _head_of(row.note)
            if head is None or (head.origin, head.size) != (origin, row.size):
                where = f"{origin}, shown by {sender}"
                findings.fault(check, where, f"a checkpoint of {row.size} entries", str(head))
        for sender, origin in shown.keys() - rows.keys():
            findings.fault(check, f"{origin}, shown by {sender}", "what was shown last", "none")
        for key, line in shown.items():
            there = rows.get(key)
            if there is not None and there.size < int(json.loads(line)["size"]):
                where = f"{key[1]}, shown by {key[0]}"
                findings.fault(check, where, line, f"{there.size} entries")


def _version(row: AuditRow) -> str:
    try:
        return str(json.loads(row.detail)["version"])
    except (ValueError, KeyError, TypeError):
        return ""


def _head_of(note: bytes) -> Head | None:
    try:
        return Checkpoint.from_bytes(note).head
    except ValueError:
        return None


def check_received(
    store: Store | None,
    folder: Path,
    trust: Trust,
    findings: Findings,
    *,
    province: str,
    known: Sequence[bytes] = (),
) -> int:
    """Check everything that a receiver keeps; return how many batches it has.

    ``store`` is None where its database is gone; ``trust`` is that in the departments. Whether
    somebody else would trust the receiver's own seal is not asked here. ``known``: receipts that
    others have; those of this ``province`` must be there.
    """
    files = {path.relative_to(folder).as_posix() for path in folder.rglob(f"*{_BATCH}")}
    if store is None:
        if files:
            found = f"{len(files)} files and no database"
            findings.fault("received.files", str(folder), "a row for each file", found)
        return 0
    audit = _Received(store, folder, trust, findings, files)
    count = audit.batches()
    for path in sorted(audit.files):
        findings.fault("received.files", path, "a row in the store", "none")
    audit.trail()
    audit.known(province, known)
    return count
