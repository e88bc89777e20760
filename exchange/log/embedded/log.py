"""The log on one machine: durable topics in one SQLite file, no server (D4).

In: messages of up to 1 MB, appended in transactions by any number of threads and processes.
Out: entries, verified against their checksum. A transaction keeps its messages in memory and
takes the file's write lock only while it commits, so that workers do not wait for each other's
computing. Every member of a group sees all partitions; the check of the expected position at
commit gives exactly once.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from exchange.errors import Integrity, Misconfigured, Rejected
from exchange.log import Consumer, Entry, Fenced, Message, Partition, Topic, gap
from exchange.log.embedded.sqlite import Database, damaged
from exchange.text import Text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

APPLICATION = 0x4758_4C47
"""``GXLG`` in the file's header tells the log from other SQLite files."""
VERSION = 1

# A partition is a `shard`; an entry's address is one integer, shard << 40 | offset, so that
# the table is one B-tree in reading order with no index beside it.
OFFSET_BITS = 40
SCHEMA = """
CREATE TABLE shard (
  id INTEGER PRIMARY KEY, topic TEXT NOT NULL, part INTEGER NOT NULL,
  compacted INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL,
  time INTEGER NOT NULL, UNIQUE (topic, part)) STRICT;
CREATE TABLE entry (
  id INTEGER PRIMARY KEY, time INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT NOT NULL,
  crc INTEGER NOT NULL, value BLOB NOT NULL) STRICT;
CREATE TABLE newest (
  shard INTEGER NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (shard, key)) STRICT, WITHOUT ROWID;
CREATE TABLE position (
  member TEXT NOT NULL, shard INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (member, shard)) STRICT, WITHOUT ROWID;
CREATE TABLE owner (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

RETAIN_SLICE = 256
"""Entries dropped per transaction, so that retention never holds the write lock for long."""
FIRST_WAIT, LONGEST_WAIT = 0.001, 0.05
"""Seconds between two looks at the file while a poll waits."""
STALE = Text("位置已被本组其他工作者移动", "another worker of the group moved the position")


@dataclass(frozen=True, slots=True)
class _Shard:
    id: int
    compacted: bool

    def address(self, offset: int) -> int:
        return self.id << OFFSET_BITS | offset

    @property
    def end(self) -> int:
        return self.id + 1 << OFFSET_BITS


@dataclass(slots=True)
class _Place:
    """Where a consumer stands: committed is what it knows the group to be at."""

    committed: int
    read: int


class EmbeddedLog:
    """A :class:`exchange.log.Log` in one SQLite file."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        patience: float = 10.0,
    ) -> None:
        """Open the log at ``path``; make it when there is none (its folder must exist).

        ``patience``: longest wait for another process's write lock, in seconds.
        """
        if not path.parent.is_dir():
            raise Misconfigured(
                Text(f"日志目录 {path.parent} 不存在", f"log folder {path.parent} does not exist"),
                hint=Text("先建立该目录,或修改日志路径", "make the folder or correct the path"),
            )
        self._file = Database(
            path, application=APPLICATION, version=VERSION, schema=SCHEMA, patience=patience
        )
        self._clock = clock
        self._sleep = sleep
        self._shards: dict[tuple[str, int], _Shard] = {}
        self._epochs: dict[str, int] = {}

    def ensure(self, topics: Sequence[Topic]) -> None:
        """Create the topics and partitions that are missing; refuses to change compaction."""
        names = [topic.name for topic in topics]
        with self._file.read() as rows:
            known = {topic.name: topic for topic in _topics(rows, names)}
        if all(known.get(topic.name) == topic for topic in topics):
            return  # the usual start: no write lock needed
        with self._file.write() as rows:
            known = {topic.name: topic for topic in _topics(rows, names)}
            for topic in topics:
                _ensure(rows, topic, known.get(topic.name))

    def topics(self, names: Sequence[str] | None = None) -> list[Topic]:
        """List the topics that there are, all or those of ``names``, by name."""
        with self._file.read() as rows:
            return _topics(rows, names)

    @contextmanager
    def transaction(self, owner: str) -> Iterator[_Transaction]:
        """Open a transaction of ``owner``; commits when the block ends."""
        self.claim(owner)
        epoch = self._epochs[owner]
        transaction = _Transaction(self._shard)
        yield transaction
        if not transaction.messages and not transaction.positions:
            return
        with self._file.write() as rows:
            found = rows.execute("SELECT epoch FROM owner WHERE name = ?", (owner,)).fetchone()
            if found != (epoch,):
                self._epochs.pop(owner, None)
                raise _fenced(
                    Text(f"「{owner}」已由另一进程接管", f"another process took over {owner!r}")
                )
            self._write(rows, transaction)
        for consumer, shard, offset in transaction.positions.values():
            consumer.moved(shard, offset)

    def claim(self, owner: str) -> bool:
        """Make ``owner`` ours; True when it was not."""
        if owner in self._epochs:
            return False
        with self._file.write() as rows:
            rows.execute(
                "INSERT INTO owner (name, epoch) VALUES (?, 1)"
                " ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1",
                (owner,),
            )
            found = rows.execute("SELECT epoch FROM owner WHERE name = ?", (owner,)).fetchone()
        self._epochs[owner] = int(found[0])
        return True

    def consumer(self, group: str, topics: Sequence[str], *, complete: bool = False) -> _Consumer:
        """Join a consumer group; retention waits for the group from now on."""
        with self._file.write() as rows:
            for topic in topics:
                if not rows.execute(
                    "SELECT 1 FROM shard WHERE topic = ? LIMIT 1", (topic,)
                ).fetchone():
                    raise _unknown(topic, 0)
                dropped = rows.execute(
                    "SELECT part, first FROM shard WHERE topic = ? AND first > 0 AND id NOT IN"
                    " (SELECT shard FROM position WHERE member = ?)",
                    (topic, group),
                ).fetchone()
                if complete and dropped:
                    raise gap(group, (topic, dropped[0]), 0, dropped[1])
                rows.execute(
                    "INSERT OR IGNORE INTO position (member, shard, next)"
                    " SELECT ?, id, first FROM shard WHERE topic = ?",
                    (group, topic),
                )
        return _Consumer(self._file, group, frozenset(topics), self._sleep)

    def read(self, topic: str, partition: int, offset: int, *, max_entries: int) -> list[Entry]:
        """Read committed entries from an address on; ``[]`` at the end."""
        shard = self._shard(topic, partition)
        with self._file.read() as rows:
            first, end = _bounds(rows, shard)
            if not first <= offset <= end:
                raise Integrity(
                    Text(
                        f"{topic}/{partition} 没有偏移量 {offset}(现存 {first} 至 {end})",
                        f"{topic}/{partition} has no offset {offset}: it keeps {first} to {end}",
                    ),
                    hint=Text(
                        "核对日志是否被替换、清理或恢复过旧备份",
                        "check whether the log was replaced, retained or restored from a backup",
                    ),
                )
            if offset == end:
                return []
            return _entries(rows, self._file.path, (topic, partition, shard), offset, max_entries)

    def latest(self, topic: str, key: str) -> Entry | None:
        """Return the newest committed entry with this key of a compacted topic, if any."""
        shard = self._shard(topic, 0)
        if not shard.compacted:
            raise Misconfigured(
                Text(f"主题「{topic}」不是压缩主题", f"topic {topic} is not compacted"),
                hint=Text("只有压缩主题能按键取最新", "only compacted topics have a newest"),
            )
        with self._file.read() as rows:
            found = rows.execute(
                "SELECT id FROM newest WHERE shard = ? AND key = ?", (shard.id, key)
            ).fetchone()
            if found is None:
                return None
            offset = found[0] - shard.address(0)
            return _entries(rows, self._file.path, (topic, 0, shard), offset, 1)[0]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first kept offset and the next offset to be written."""
        shard = self._shard(topic, partition)
        with self._file.read() as rows:
            return _bounds(rows, shard)

    def position(self, group: str, topic: str, partition: int) -> int:
        """Return the committed next offset of a group (the first kept one when none)."""
        shard = self._shard(topic, partition)
        with self._file.read() as rows:
            found = rows.execute(
                "SELECT next FROM position WHERE member = ? AND shard = ?", (group, shard.id)
            ).fetchone()
            return int(found[0]) if found else _bounds(rows, shard)[0]

    def slowest(self, topic: str, partition: int) -> tuple[str, int]:
        """Return the group that is furthest behind, and its position; "" and the end for none."""
        shard = self._shard(topic, partition)
        with self._file.read() as rows:
            return _slowest(rows, shard, _bounds(rows, shard)[1])

    def retain(self, topic: str, partition: int, before: int) -> None:
        """Drop entries below offset ``before``; refused past any group's position."""
        shard = self._shard(topic, partition)
        if shard.compacted:
            raise Misconfigured(
                Text(f"压缩主题「{topic}」不按偏移量清理", f"topic {topic} is compacted by key"),
                hint=Text("不要对它设置保留期", "do not set a retention for it"),
            )
        with self._file.write() as rows:
            first, end = _bounds(rows, shard)
            who, limit = _slowest(rows, shard, end)
            if before > limit:
                raise Rejected(
                    Text(
                        f"{topic}/{partition} 不能清理到 {before}:「{who or '末尾'}」在 {limit}",
                        f"{topic}/{partition} cannot drop up to {before}:"
                        f" {who or 'the end'} is at {limit}",
                    ),
                    hint=Text("等该消费组处理完再清理", "let that group catch up first"),
                )
            rows.execute("UPDATE shard SET first = ? WHERE id = ?", (max(first, before), shard.id))
        # Readers already refuse what lies below `first`: dropping may take its time, and
        # what a killed process left undone is dropped the next time.
        dropped = RETAIN_SLICE
        while dropped == RETAIN_SLICE:
            with self._file.write() as rows:
                dropped = rows.execute(
                    "DELETE FROM entry WHERE id IN (SELECT id FROM entry"
                    " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
                    (shard.address(0), shard.address(max(first, before)), RETAIN_SLICE),
                ).rowcount

    def begin(self, topic: str, partition: int, offset: int) -> None:
        """Let an empty partition begin at an offset, as if what is before had been retained away.

        Raises Rejected where it has entries.
        """
        shard = self._shard(topic, partition)
        with self._file.write() as rows:
            done = rows.execute(
                "UPDATE shard SET first = ?, next = ? WHERE id = ? AND next = 0",
                (offset, offset, shard.id),
            ).rowcount
        if done != 1:
            raise Rejected(
                Text(f"{topic}/{partition} 不是空的", f"{topic}/{partition} is not empty"),
                hint=Text("只有空分区可以设定起点", "only an empty partition may begin elsewhere"),
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _shard(self, topic: str, partition: int) -> _Shard:
        """Find a partition; raises Misconfigured when it does not exist."""
        found = self._shards.get((topic, partition))
        if found is None:
            with self._file.read() as rows:
                row = rows.execute(
                    "SELECT id, compacted FROM shard WHERE topic = ? AND part = ?",
                    (topic, partition),
                ).fetchone()
            if row is None:
                raise _unknown(topic, partition)
            found = self._shards[topic, partition] = _Shard(row[0], bool(row[1]))
        return found

    def _write(self, rows: sqlite3.Connection, transaction: _Transaction) -> None:
        """Append and move positions; the caller commits."""
        now = int(self._clock().timestamp() * 1000)
        for shard, message in transaction.messages:
            offset, last = rows.execute(
                "SELECT next, time FROM shard WHERE id = ?", (shard.id,)
            ).fetchone()
            moment = max(now, last)  # the clock may have been set back
            address = shard.address(offset)
            headers = json.dumps(dict(message.headers), ensure_ascii=False)
            crc = _checksum(address, moment, message.key, headers, message.value)
            rows.execute(
                "INSERT INTO entry (id, time, key, headers, crc, value) VALUES (?, ?, ?, ?, ?, ?)",
                (address, moment, message.key, headers, crc, message.value),
            )
            rows.execute(
                "UPDATE shard SET next = ?, time = ? WHERE id = ?", (offset + 1, moment, shard.id)
            )
            if shard.compacted:
                _replace_newest(rows, shard, message.key, address)
        for consumer, shard, offset in transaction.positions.values():
            first, end = _bounds(rows, shard)
            if not first <= offset <= end:
                raise Rejected(
                    Text(
                        f"消费位置 {offset} 不在 {first} 至 {end} 之内",
                        f"position {offset} is outside {first} to {end}",
                    ),
                    hint=Text("提交已读条目之后的偏移量", "commit the offset after an entry read"),
                )
            moved = rows.execute(
                "UPDATE position SET next = ? WHERE member = ? AND shard = ? AND next = ?",
                (offset, consumer.group, shard.id, consumer.known(shard)),
            ).rowcount
            if moved != 1:
                raise _fenced(STALE)


class _Transaction:
    """What a worker wants to become visible together."""

    def __init__(self, find: Callable[[str, int], _Shard]) -> None:
        self._find = find
        self.messages: list[tuple[_Shard, Message]] = []
        self.positions: dict[tuple[str, int], tuple[_Consumer, _Shard, int]] = {}

    def append(self, message: Message) -> None:
        """Append a message when the block ends."""
        shard = self._find(message.topic, message.partition)
        if shard.compacted and not message.key:
            raise Misconfigured(
                Text(
                    f"压缩主题「{message.topic}」的消息必须有键",
                    f"a message of compacted topic {message.topic} needs a key",
                ),
                hint=Text("给出键", "give it a key"),
            )
        self.messages.append((shard, message))

    def commit(self, consumer: Consumer, topic: str, partition: int, offset: int) -> None:
        """Set the group's next offset to read when the block ends."""
        if not isinstance(consumer, _Consumer):
            message = "the consumer belongs to another driver"
            raise TypeError(message)
        shard = self._find(topic, partition)
        consumer.known(shard)
        self.positions[consumer.group, shard.id] = (consumer, shard, offset)


class _Consumer:
    """A member of a group; used by one thread at a time."""

    def __init__(
        self,
        file: Database,
        group: str,
        topics: frozenset[str],
        sleep: Callable[[float], None],
    ) -> None:
        self.group = group
        self._file = file
        self._topics = json.dumps(sorted(topics))
        self._sleep = sleep
        self._places: dict[int, _Place] = {}
        self._last = -1

    def poll(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        timeout: float = 0.0,
        skip: Collection[Partition] = (),
    ) -> list[Entry]:
        """Return the next entries of one partition; ``[]`` after ``timeout`` seconds."""
        waited, wait = 0.0, FIRST_WAIT
        while True:
            entries = self._poll(max_entries, max_bytes, skip)
            if entries or waited >= timeout:
                return entries
            wait = min(wait, timeout - waited)
            self._sleep(wait)
            waited += wait
            wait = min(2 * wait, LONGEST_WAIT)

    def assigned(self) -> frozenset[Partition]:
        """Return all partitions of its topics: every member reads them all."""
        with self._file.read() as rows:
            return frozenset(
                rows.execute(
                    "SELECT topic, part FROM shard WHERE topic IN (SELECT value FROM json_each(?))",
                    (self._topics,),
                ).fetchall()
            )

    def rewind(self) -> None:
        """Return to the committed positions."""
        self._places.clear()

    def close(self) -> None:
        """Leave the group; the group's positions stay."""
        self._places.clear()

    def known(self, shard: _Shard) -> int:
        """Return the position that this consumer's entries build on."""
        place = self._places.get(shard.id)
        if place is None:
            raise _fenced(Text("自上次回退后尚未读取", "nothing was polled since the last rewind"))
        return place.committed

    def moved(self, shard: _Shard, offset: int) -> None:
        """Take note of an own commit."""
        place = self._places[shard.id]
        place.committed = offset
        place.read = max(place.read, offset)

    def _poll(self, max_entries: int, max_bytes: int, skip: Collection[Partition]) -> list[Entry]:
        with self._file.read() as rows:
            waiting = {
                shard: place
                for shard, place in self._waiting(rows).items()
                if place[:2] not in skip
            }
            if not waiting:
                return []
            # Partitions take turns: the next one after the last served.
            turn = min(waiting, key=lambda shard: (shard <= self._last, shard))
            topic, partition, compacted = waiting[turn]
            place, shard = self._places[turn], _Shard(turn, compacted)
            count = _fitting(rows, shard, place.read, max_entries, max_bytes)
            entries = _entries(rows, self._file.path, (topic, partition, shard), place.read, count)
        self._last = turn
        place.read = entries[-1].offset + 1
        return entries

    def _waiting(self, rows: sqlite3.Connection) -> dict[int, tuple[str, int, bool]]:
        """Find the partitions with entries to read, and follow where other members moved."""
        waiting = {}
        for shard, topic, partition, compacted, end, committed in rows.execute(
            "SELECT s.id, s.topic, s.part, s.compacted, s.next, p.next"
            # CROSS: from the few topics to their positions, not through the whole group's.
            " FROM json_each(?) t CROSS JOIN shard s ON s.topic = t.value"
            " CROSS JOIN position p ON p.member = ? AND p.shard = s.id",
            (self._topics, self.group),
        ):
            place = self._places.setdefault(shard, _Place(committed, committed))
            # Only without entries in hand: those were read from the old position, and their
            # transaction must still be fenced.
            if place.read == place.committed != committed:
                place.read = place.committed = committed
            if place.read < end:
                waiting[shard] = (topic, partition, bool(compacted))
        return waiting


def _topics(rows: sqlite3.Connection, names: Sequence[str] | None = None) -> list[Topic]:
    """Read the topics that there are, all or those of ``names``."""
    return [
        Topic(name, partitions, bool(compacted))
        for name, partitions, compacted in rows.execute(
            "SELECT topic, count(*), max(compacted) FROM shard"
            " WHERE ?1 IS NULL OR topic IN (SELECT value FROM json_each(?1))"
            " GROUP BY topic ORDER BY topic",
            (None if names is None else json.dumps(names),),
        )
    ]


def _ensure(rows: sqlite3.Connection, topic: Topic, known: Topic | None) -> None:
    if known and known.compacted != topic.compacted:
        raise Misconfigured(
            Text(
                f"主题「{topic.name}」的压缩方式与现存的不同",
                f"topic {topic.name} exists with another compaction",
            ),
            hint=Text("换一个主题名称", "choose another topic name"),
        )
    for partition in range(known.partitions if known else 0, topic.partitions):
        rows.execute(
            "INSERT INTO shard (topic, part, compacted, first, next, time)"
            " VALUES (?, ?, ?, 0, 0, 0)",
            (topic.name, partition, topic.compacted),
        )
    # Groups that read the topic own its new partitions too, from their beginning.
    rows.execute(
        "INSERT OR IGNORE INTO position (member, shard, next)"
        " SELECT DISTINCT p.member, n.id, n.first FROM position p JOIN shard o ON o.id = p.shard"
        " JOIN shard n ON n.topic = o.topic WHERE o.topic = ?",
        (topic.name,),
    )


def _slowest(rows: sqlite3.Connection, shard: _Shard, end: int) -> tuple[str, int]:
    row = rows.execute(
        "SELECT member, next FROM position WHERE shard = ? ORDER BY next LIMIT 1", (shard.id,)
    ).fetchone()
    return (str(row[0]), int(row[1])) if row and row[1] < end else ("", end)


def _bounds(rows: sqlite3.Connection, shard: _Shard) -> tuple[int, int]:
    first, end = rows.execute("SELECT first, next FROM shard WHERE id = ?", (shard.id,)).fetchone()
    return int(first), int(end)


def _fitting(
    rows: sqlite3.Connection, shard: _Shard, offset: int, max_entries: int, max_bytes: int
) -> int:
    """Count the entries from ``offset`` on that fit, at least one, without reading values."""
    count = size = 0
    for (length,) in rows.execute(
        "SELECT length(value) FROM entry WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (shard.address(offset), shard.end, max_entries),
    ):
        size += length
        if count and size > max_bytes:
            break
        count += 1
    return max(count, 1)


def _entries(
    rows: sqlite3.Connection,
    path: Path,
    place: tuple[str, int, _Shard],
    offset: int,
    limit: int,
) -> list[Entry]:
    """Read entries from ``offset`` on, which exists; each against its checksum, gaps refused."""
    topic, partition, shard = place
    entries: list[Entry] = []
    for address, moment, key, headers, crc, value in rows.execute(
        "SELECT id, time, key, headers, crc, value FROM entry"
        " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (shard.address(offset), shard.end, limit),
    ):
        found = address - shard.address(0)
        if found != offset and not shard.compacted:
            raise damaged(path, _at(topic, partition, offset, Text("条目缺失", "entry missing")))
        if crc != _checksum(address, moment, key, headers, value):
            raise damaged(path, _at(topic, partition, found, Text("校验和不符", "wrong checksum")))
        entries.append(Entry(topic, partition, found, key, value, _headers(headers), moment))
        offset = found + 1
    if not entries:
        raise damaged(path, _at(topic, partition, offset, Text("条目缺失", "entry missing")))
    return entries


def _at(topic: str, partition: int, offset: int, what: Text) -> Text:
    place = f"{topic}/{partition}/{offset}"
    return Text(f"{place} {what.zh}", f"{what.en} at {place}")


def _headers(text: str) -> Mapping[str, str]:
    headers: dict[str, str] = json.loads(text)
    return headers


def _checksum(address: int, moment: int, key: str, headers: str, value: bytes) -> int:
    """CRC-32 over address, time, key, headers and value: 0.1 ms for 500 KiB."""
    return crc32(value, crc32(f"{address} {moment} {key}\0{headers}".encode()))


def _replace_newest(rows: sqlite3.Connection, shard: _Shard, key: str, address: int) -> None:
    """Drop what the new entry of this key supersedes."""
    rows.execute(
        "DELETE FROM entry WHERE id = (SELECT id FROM newest WHERE shard = ? AND key = ?)",
        (shard.id, key),
    )
    rows.execute(
        "INSERT INTO newest (shard, key, id) VALUES (?, ?, ?)"
        " ON CONFLICT (shard, key) DO UPDATE SET id = excluded.id",
        (shard.id, key, address),
    )


def _unknown(topic: str, partition: int) -> Misconfigured:
    return Misconfigured(
        Text(f"主题分区 {topic}/{partition} 不存在", f"there is no {topic}/{partition} in the log"),
        hint=Text(
            "先建立主题：exchange catalog apply", "make the topic first: `exchange catalog apply`"
        ),
    )


def _fenced(why: Text) -> Fenced:
    return Fenced(
        Text(f"事务被作废:{why.zh}", f"the transaction was fenced: {why.en}"),
        hint=Text("丢弃已读内容,重新读取", "drop what was read and poll again"),
    )
