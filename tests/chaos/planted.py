"""A worker with a planted bug: it commits its position before it writes what it has sealed.

``python -m tests.chaos.planted run …`` is the command ``exchange run …`` with that bug. The first
worker that seals is killed between the two transactions, once per folder (``planted.txt``).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from exchange.cli import main
from exchange.log import Consumer, Log, Message
from exchange.node import node as nodes
from exchange.node.node import Node
from exchange.pipeline.context import PipelineContext

FILE = "planted.txt"


@dataclass
class _Split:
    """A transaction whose parts are kept apart."""

    messages: list[Message] = field(default_factory=list)
    positions: list[tuple[Consumer, str, int, int]] = field(default_factory=list)

    def append(self, message: Message) -> None:
        self.messages.append(message)

    def commit(self, consumer: Consumer, topic: str, partition: int, offset: int) -> None:
        self.positions.append((consumer, topic, partition, offset))


class CommitsFirst:
    """A log whose sealing transactions are two: the position, and then the messages."""

    def __init__(self, log: Log, mark: Path) -> None:
        self._log = log
        self._mark = mark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    @contextmanager
    def transaction(self, owner: str) -> Iterator[Any]:
        if not owner.startswith("seal/"):
            with self._log.transaction(owner) as whole:
                yield whole
            return
        self._log.claim(owner)  # what the block reads is nobody else's to write, as ever
        split = _Split()
        yield split
        if split.positions:
            with self._log.transaction(owner) as first:
                for position in split.positions:
                    first.commit(*position)
            self._strike()
        with self._log.transaction(owner) as second:
            for message in split.messages:
                second.append(message)

    def _strike(self) -> None:
        with suppress(FileExistsError):
            self._mark.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)


class PlantedNode(Node):
    """A node with that log."""

    @cached_property
    def context(self) -> PipelineContext:
        context = super().context
        return replace(context, log=CommitsFirst(context.log, self.settings.folder / FILE))


if __name__ == "__main__":
    vars(nodes)["Node"] = PlantedNode
    main.run()
