"""Topics that somebody else writes: made by an administrator, filled by kcat (librdkafka)."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

Message = tuple[str | None, str | None]
"""Key and value."""
_TAB, _NULL = "\t", ""


def admin(bootstrap: Sequence[str]) -> contextlib.closing[KafkaAdminClient]:
    return contextlib.closing(KafkaAdminClient(bootstrap_servers=list(bootstrap)))


def make_topic(bootstrap: Sequence[str], name: str, partitions: int = 1) -> None:
    with admin(bootstrap) as client:
        client.create_topics([NewTopic(name, partitions, 1)], wait_for_metadata=True)


def drop_before(bootstrap: Sequence[str], name: str, partition: int, offset: int) -> None:
    """Drop what lies below an offset, as retention does."""
    with admin(bootstrap) as client:
        client.delete_records({TopicPartition(name, partition): offset})


def write(
    bootstrap: Sequence[str], name: str, messages: Sequence[Message], partition: int = 0
) -> None:
    """Write lines of text by kcat, in order; None stands for null."""
    lines = [f"{key or _NULL}{_TAB}{value or _NULL}\n" for key, value in messages]
    _kcat(bootstrap, name, partition, "-K", _TAB, "-Z", said="".join(lines).encode())


def write_bytes(
    bootstrap: Sequence[str], name: str, messages: Sequence[tuple[bytes, bytes]], partition: int = 0
) -> None:
    """Write messages of any bytes by kcat, one after the other."""
    for key, value in messages:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "value"
            file.write_bytes(value)
            # A key travels as an argument of a program: no byte of it may be 0.
            _kcat(bootstrap, name, partition, "-k", key.decode(), str(file))


def _kcat(
    bootstrap: Sequence[str], name: str, partition: int, *arguments: str, said: bytes = b""
) -> None:
    command = ["kcat", "-P", "-b", ",".join(bootstrap), "-t", name, "-p", str(partition)]
    command += ["-X", "acks=all", *arguments]
    subprocess.run(command, input=said, check=True, capture_output=True, timeout=60)
