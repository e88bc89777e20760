"""What is wrong with the file of a log, beside the checksums of its entries.

Every entry has a checksum, which its readers compare. What is looked at here has none: the pages
of the file, and the tables that say where entries are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from exchange.log.embedded.log import OFFSET_BITS

_FAULTS = 20
"""Faults of the pages that are named."""
_TABLES = {
    "entry {0} lies in no partition": """
        SELECT id FROM entry WHERE id >> :bits NOT IN (SELECT id FROM shard)""",
    "{0}/{1}: entries behind its end {2}": """
        SELECT topic, part, next FROM shard s WHERE EXISTS (SELECT 1 FROM entry
        WHERE id >= (s.id << :bits | s.next) AND id < (s.id + 1 << :bits))""",
    "{0}/{1}: entries before its first {2}: a retention broken off, or a change": """
        SELECT topic, part, first FROM shard s WHERE EXISTS (SELECT 1 FROM entry
        WHERE id >= s.id << :bits AND id < (s.id << :bits | s.first))""",
    "{0}: {1} is not the newest of its key": """
        SELECT s.topic, n.key FROM newest n JOIN shard s ON s.id = n.shard
        LEFT JOIN entry e ON e.id = n.id AND e.key = n.key
        WHERE e.id IS NULL OR n.id >> :bits <> n.shard""",
    "{0}: {1} entries of {2} keys": """
        SELECT topic, entries, keys FROM (SELECT s.topic,
        (SELECT count(*) FROM entry
         WHERE id >= s.id << :bits AND id < (s.id + 1 << :bits)) AS entries,
        (SELECT count(*) FROM newest WHERE shard = s.id) AS keys
        FROM shard s WHERE s.compacted) WHERE entries <> keys""",
    "{0} reads a partition that there is not, or stands outside of it: {1}": """
        SELECT p.member, p.next FROM position p LEFT JOIN shard s ON s.id = p.shard
        WHERE s.id IS NULL OR p.next < s.first OR p.next > s.next""",
}
"""What tables must not have, and the queries that look for it."""


def structure(path: Path) -> Iterator[str]:
    """Yield what is wrong with the file; nothing is changed."""
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as rows:
            rows.execute("BEGIN")
            for (text,) in rows.execute(f"PRAGMA integrity_check({_FAULTS})"):
                if text != "ok":
                    yield str(text)
            for text, query in _TABLES.items():
                for row in rows.execute(query, {"bits": OFFSET_BITS}).fetchmany(_FAULTS):
                    yield text.format(*row)
    except sqlite3.Error as error:
        yield str(error)
