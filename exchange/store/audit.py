"""The audit trail (审计): append only, each entry carries the digest of the one before.

The digest covers the JSON array ``[number, at, actor, action, subject, detail, previous]``
(UTF-8, no spaces, non-ASCII as is; ``at`` as ``2026-11-23T01:02:03.004Z``) and is written
``<hash>:<hex>``. Changing, dropping or inserting an entry breaks the chain; a cut tail shows
only against a :meth:`AuditTrail.head` that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from sqlalchemy import BigInteger, Connection, insert, select
from sqlalchemy.exc import IntegrityError

from exchange.errors import Integrity, Misconfigured
from exchange.store.columns import MAX_TEXT, FreeText, Moment, Name
from exchange.store.sql import Lender, RowTable, Stored, stale
from exchange.text import Text

TRIES = 50
"""How often an entry is tried when other writers take its number."""
PAGE = 1_000
_BEGIN = 500
"""Characters of a detail that is too long which are kept as they are."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the audit trail (审计), chained to the one before by its digest."""

    number: Annotated[int, Stored("entry_no", BigInteger, key=True)]
    at: Annotated[datetime, Stored("entry_at", Moment)]
    actor: Annotated[str, Stored("actor_name", Name(128))]
    action: Annotated[str, Stored("action_name", Name(64))]
    subject: Annotated[str, Stored("subject_name", Name(400), null=True)]
    detail: Annotated[str, Stored("detail", FreeText, null=True)]
    previous: Annotated[str, Stored("previous_digest", Name(160), null=True)]
    digest: Annotated[str, Stored("entry_digest", Name(160))]


AUDIT = RowTable("audit_trail", AuditRow)


class AuditTrail:
    """What people and programs did."""

    def __init__(self, lender: Lender, clock: Callable[[], datetime], hash_name: str) -> None:
        """Work on the lender's database; ``hash_name`` as hashlib knows it."""
        self._lender = lender
        self._clock = clock
        self._hash_name = hash_name

    def append(
        self,
        actor: str,
        action: str,
        subject: str,
        detail: str | Callable[[], str] = "",
        *,
        beside: Callable[[Connection], None] = lambda _: None,
    ) -> AuditRow:
        """Write an entry behind the newest one; ``beside`` is done in the same transaction.

        A ``detail`` that is a function is asked after ``beside``. One that is too long is kept by
        its length and digest: it is never cut.
        """
        for _ in range(TRIES):
            done = False
            try:
                with self._lender.write() as connection:
                    beside(connection)
                    done = True
                    text = bounded(detail() if callable(detail) else detail)
                    return self._append(connection, actor, action, subject, text)
            except Integrity as error:
                # The number was taken between look and insert: look again.
                if not (done and isinstance(error.__cause__, IntegrityError)):
                    raise
        raise stale("audit trail")

    def _append(
        self, connection: Connection, actor: str, action: str, subject: str, detail: str
    ) -> AuditRow:
        number, previous = _head(connection)
        at = self._clock().astimezone(UTC)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        row = AuditRow(number + 1, at, actor, action, subject, detail, previous, "")
        row = replace(row, digest=_digest(row, self._hash_name))
        connection.execute(insert(AUDIT.table).values(AUDIT.values(row)))
        return row

    def find(
        self, *, after: int = 0, subject: str | None = None, limit: int = PAGE
    ) -> list[AuditRow]:
        """Find entries behind number ``after``, oldest first; of one subject or of all."""
        query = select(*AUDIT.columns).where(AUDIT.c.number > after)
        if subject is not None:
            query = query.where(AUDIT.c.subject == subject)
        with self._lender.read() as connection:
            return AUDIT.read(connection, query.order_by(AUDIT.c.number).limit(limit))

    def head(self) -> tuple[int, str]:
        """Return number and digest of the newest entry; ``(0, "")`` when there is none."""
        with self._lender.read() as connection:
            return _head(connection)

    def ends(self) -> tuple[str, int, str] | None:
        """Return the first digest, and number and digest of the newest entry; None for no entry."""
        first = select(AUDIT.c.digest).order_by(AUDIT.c.number).limit(1)
        with self._lender.read() as connection:
            number, digest = _head(connection)
            return (connection.execute(first).scalar_one(), number, digest) if number else None

    def walk(self) -> Iterator[tuple[AuditRow, bool]]:
        """Yield every entry, oldest first, and whether it continues the chain as it should."""
        after, previous = 0, ""
        while page := self.find(after=after):
            for row in page:
                expected = (after + 1, previous, _digest(row, row.digest.partition(":")[0]))
                yield row, (row.number, row.previous, row.digest) == expected
                after, previous = row.number, row.digest

    def check(self) -> tuple[int, str]:
        """Walk the whole chain and return its head; raises Integrity naming the first break."""
        number, digest = 0, ""
        for row, sound in self.walk():
            number += 1
            if not sound:
                raise _broken(number)
            digest = row.digest
        return number, digest


def bounded(detail: str) -> str:
    """Return a detail as it is kept: as it is, else by its length and digest, with its begin.

    Of JSON the long members go, the longest first, each for its length and digest: it stays JSON.
    """
    detail = detail.replace("\0", "\ufffd").encode(errors="replace").decode()
    if len(detail) <= MAX_TEXT:
        return detail
    try:
        members = json.loads(detail)
    except ValueError:
        members = None
    while isinstance(members, dict) and members:
        longest = max(members, key=lambda name: len(_json(members[name])))
        short = _digested(_json(members[longest]))
        if short == members[longest] or len(_json(short)) >= len(_json(members[longest])):
            break
        members[longest] = short
        if len(text := _json(members)) <= MAX_TEXT:
            return text
    return _json(_digested(detail) | {"begins": detail[:_BEGIN]})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _digested(text: str) -> dict[str, object]:
    return {
        "characters": len(text),
        "digest": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
    }


def _head(connection: Connection) -> tuple[int, str]:
    query = select(AUDIT.c.number, AUDIT.c.digest).order_by(AUDIT.c.number.desc()).limit(1)
    newest = connection.execute(query).one_or_none()
    return (0, "") if newest is None else (int(newest[0]), str(newest[1]))


def _digest(row: AuditRow, hash_name: str) -> str:
    at = row.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    parts = [row.number, at, row.actor, row.action, row.subject, row.detail, row.previous]
    content = json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()
    try:
        return f"{hash_name}:{hashlib.new(hash_name, content).hexdigest()}"
    except ValueError as error:
        raise Misconfigured(
            Text(
                f"本机的密码库没有摘要算法「{hash_name}」",
                f"the cryptographic library here has no hash {hash_name!r}",
            ),
            hint=Text("换用 sha256,或安装带 SM3 的 OpenSSL", "use sha256, or an OpenSSL with SM3"),
        ) from error


def _broken(number: int) -> Integrity:
    return Integrity(
        Text(
            f"审计链在第 {number} 条断开:该条被改动、删除或插入",
            f"the audit trail breaks at entry {number}: changed, removed or inserted",
        ),
        hint=Text("保留数据库,与备份和封存的摘要核对", "keep the database; compare with a backup"),
    )
