"""The audit trail (审计): append only, each entry carries the digest of the one before.

The digest covers the JSON array ``[number, at, actor, action, subject, detail, previous]``
(UTF-8, no spaces, non-ASCII as is; ``at`` as ``2026-11-23T01:02:03.004Z``) and is written
``<hash>:<hex>``. Changing, dropping or inserting an entry breaks the chain; a cut tail shows
only against a :meth:`AuditTrail.head` that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC
from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from exchange.errors import Integrity, Misconfigured
from exchange.store.rows import AuditRow
from exchange.store.sql import Lender, columns, made, stale, values
from exchange.store.tables import MAX_TEXT, audit_trail
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

NAMES = {
    "number": "entry_no",
    "at": "entry_at",
    "actor": "actor_name",
    "action": "action_name",
    "subject": "subject_name",
    "detail": "detail",
    "previous": "previous_digest",
    "digest": "entry_digest",
}
TRIES = 50
"""How often an entry is tried when other writers take its number."""
PAGE = 1_000


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
        detail: str = "",
        *,
        beside: Callable[[Connection], None] = lambda _: None,
    ) -> AuditRow:
        """Write an entry behind the newest one; ``beside`` is done in the same transaction."""
        detail = detail.replace("\0", "\ufffd").encode(errors="replace").decode()[:MAX_TEXT]
        for _ in range(TRIES):
            try:
                with self._lender.write() as connection:
                    beside(connection)
                    return self._append(connection, actor, action, subject, detail)
            except Integrity as error:
                # The number was taken between look and insert: look again.
                if not isinstance(error.__cause__, IntegrityError):
                    raise
        raise stale("audit trail")

    def _append(
        self, connection: Connection, actor: str, action: str, subject: str, detail: str
    ) -> AuditRow:
        number, previous = _head(connection)
        at = self._clock().astimezone(UTC)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        row = AuditRow(number + 1, at, actor, action, subject, detail, previous, "")
        digest = _digest(row, self._hash_name)
        row = AuditRow(number + 1, at, actor, action, subject, detail, previous, digest)
        connection.execute(insert(audit_trail).values(values(row, NAMES)))
        return row

    def find(
        self, *, after: int = 0, subject: str | None = None, limit: int = PAGE
    ) -> list[AuditRow]:
        """Find entries behind number ``after``, oldest first; of one subject or of all."""
        query = (
            select(*columns(audit_trail, NAMES))
            .where(audit_trail.c.entry_no > after)
            .order_by(audit_trail.c.entry_no)
            .limit(limit)
        )
        if subject is not None:
            query = query.where(audit_trail.c.subject_name == subject)
        with self._lender.read() as connection:
            return [made(AuditRow, row) for row in connection.execute(query)]

    def head(self) -> tuple[int, str]:
        """Return number and digest of the newest entry; ``(0, "")`` when there is none."""
        with self._lender.read() as connection:
            return _head(connection)

    def check(self) -> tuple[int, str]:
        """Walk the whole chain and return its head; raises Integrity naming the first break."""
        number, previous = 0, ""
        while page := self.find(after=number):
            for row in page:
                number += 1
                name = row.digest.partition(":")[0]
                sound = (row.number, row.previous) == (number, previous)
                if not sound or row.digest != _digest(row, name):
                    raise _broken(number)
                previous = row.digest
        return number, previous


def _head(connection: Connection) -> tuple[int, str]:
    found = connection.execute(
        select(audit_trail.c.entry_no, audit_trail.c.entry_digest)
        .order_by(audit_trail.c.entry_no.desc())
        .limit(1)
    ).one_or_none()
    return (0, "") if found is None else (int(found[0]), str(found[1]))


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
