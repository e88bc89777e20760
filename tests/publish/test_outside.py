"""Programs with nothing of ours read the topic: kcat, and the page's own example."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.publish.conftest import Setup
from tests.publish.place import Change, ConsumedMessage, Decoder, by_key, changes, drain, expected

PAGE = Path(__file__).parents[2] / "docs" / "publish.md"
MADE = [*changes(60, keys=7), Change("I", "n\n9", "换行\n与制表\t")]


def published(setup: Setup) -> None:
    setup.partitions = 3
    setup.seal(MADE)
    assert drain(setup.stage()) == len(MADE)


def kcat(setup: Setup) -> list[ConsumedMessage]:
    """Consume with kcat; sizes stand before the bytes."""
    result = subprocess.run(
        [
            *("kcat", "-C", "-b", ",".join(setup.bootstrap), "-t", setup.topic),
            *("-o", "beginning", "-e", "-q", "-f", "%p %o %K %S\n%k%s\n"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    items, rest = [], result.stdout
    while rest:
        head, _, rest = rest.partition(b"\n")
        partition, offset, key, size = map(int, head.split())
        value = None if size < 0 else rest[key : key + size]
        items.append(ConsumedMessage(partition, offset, rest[:key], value))
        rest = rest[key + max(0, size) + 1 :]
    return sorted(items, key=lambda item: (item.partition, item.offset))


def test_kcat_reads_keys_values_and_tombstones(setup: Setup) -> None:
    published(setup)
    seen = kcat(setup)
    assert seen == setup.read()
    assert by_key(seen, Decoder(setup.server.schema)) == expected(MADE)


def test_the_example_of_the_page_reads_every_record(setup: Setup) -> None:
    published(setup)
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    printed: list[tuple[dict[str, str], dict[str, str] | None]] = []
    names = {
        "registry": setup.server.url,
        "topic": setup.topic,
        "bootstrap": list(setup.bootstrap),
        "print": lambda key, record: printed.append((key, record)),
    }
    exec(compile(example, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    values: dict[str, list[str | None]] = {}
    for key, record in printed:
        values.setdefault(key["no"], []).append(None if record is None else record["title"])
    assert values == expected(MADE)
