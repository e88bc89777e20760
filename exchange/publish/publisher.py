"""Runs the stages of several resources: once, or until a person stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from exchange.errors import ExchangeError, Transient
from exchange.publish.stage import PublishStage
from exchange.run.outcome import RunOutcome, Where

_IDLE_SECONDS = 0.5
_MOMENT_SECONDS = 0.2
"""A pause after a step that published nothing: partitions are moving between workers."""
_AGAIN_SECONDS = 5.0
"""How long a resource is left alone whose log or registry is away."""
_REST_SECONDS = 60.0
"""How long it is left alone when it needs a person."""


@dataclass
class Publisher:
    """Gives each resource its turn; one that fails never stops the others.

    ``progress`` is called with a resource and how many of its records were published.
    """

    stages: Mapping[str, PublishStage]
    progress: Callable[[str, int], None] = lambda _resource, _records: None
    sleep: Callable[[float], None] = time.sleep

    def once(self) -> RunOutcome:
        """Publish what is there; errors are by ``publish/<resource>``."""
        outcome = RunOutcome()
        for name, stage in self.stages.items():
            more = True
            while more:
                with outcome.keep(Where("publish", name)):
                    more = False
                    more = self._step(name, stage)
        return outcome

    def forever(
        self,
        stop: threading.Event,
        report: Callable[[Where, ExchangeError], None],
        monotonic: Callable[[], float],
    ) -> None:
        """Publish until ``stop`` is set; what fails is reported and tried again."""
        outcome = RunOutcome()
        due = dict.fromkeys(self.stages, 0.0)
        while not stop.is_set():
            busy = False
            for name, stage in self.stages.items():
                if stop.is_set() or monotonic() < due[name]:
                    continue
                where = Where("publish", name)
                with outcome.keep(where):
                    busy |= self._step(name, stage)
                error = outcome.errors.pop(where, None)
                if error is not None:
                    report(where, error)
                    wait = _AGAIN_SECONDS if isinstance(error, Transient) else _REST_SECONDS
                    due[name] = monotonic() + wait
            if not busy:
                stop.wait(_IDLE_SECONDS)

    def _step(self, name: str, stage: PublishStage) -> bool:
        count = stage.step()
        if count:
            self.progress(name, count)
        elif count == 0:
            self.sleep(_MOMENT_SECONDS)
        return count is not None
