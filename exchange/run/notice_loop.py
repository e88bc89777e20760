"""Sends notices in a thread of its own: a mail server that hangs delays no pull and no seal.

In: what is wrong now, put into a slot by the main thread. Out: the errors of the channels. What
was sent stands in the log, so that a restart repeats nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from exchange.cascade.delivery import State
from exchange.errors import ExchangeError
from exchange.pipeline.failure import PullFailure, failure_key
from exchange.run.notices import (
    Notice,
    NoticeRule,
    NoticeState,
    decide,
    notices_key,
    summarised,
    summary_is_due,
)
from exchange.run.outcome import Where, exchange_error
from exchange.run.status import StatusReader
from exchange.settings import ChatSettings, MailSettings, NotifySettings
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.run.status import ResourceStatus

_LOOK = timedelta(minutes=1)
"""Between two looks at receipts that are overdue."""
_JOIN_SECONDS = 2.0


class NoticeLoop:
    """Sends what is due over each channel of the settings."""

    def __init__(
        self,
        node: Node,
        settings: NotifySettings,
        *,
        pause: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet; ``pause``: seconds between two decisions."""
        self._node = node
        self._settings = settings
        self._pause = pause
        self._monotonic = monotonic
        self._shown: tuple[dict[str, str], frozenset[str]] | None = None
        """What is wrong in this run, and its sources; None until the main thread has said it."""
        self._errors: dict[str, ExchangeError] = {}
        self._statuses: list[ResourceStatus] = []
        self._failing: dict[str, str] = {}
        """By source, the kind of error that its last pull ended with."""
        self._looked: float | None = None
        self._began = monotonic()
        self._news = threading.Event()
        """Set when something is wrong that was not, or the reverse."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    # --- for the main thread --------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def show(self, problems: Mapping[str, str], sources: Collection[str]) -> None:
        """Say what is wrong in this run now, and which sources are this worker's."""
        shown = dict(problems), frozenset(sources)
        if shown != self._shown:
            self._shown = shown
            self._news.set()

    def look_again(self) -> None:
        """Say that something has happened: a pull has ended, a batch was refused."""
        self._looked = None
        self._news.set()

    def errors(self) -> dict[Where, ExchangeError]:
        """Return what fails now, by channel."""
        return {Where("notify", name): error for name, error in self._errors.copy().items()}

    def stop(self) -> None:
        """Stop; a channel that hangs is not waited for."""
        self._stop.set()
        self._news.set()
        self._thread.join(_JOIN_SECONDS)

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._news.wait(self._pause)
            self._news.clear()
            if self._shown is not None and not self._stop.is_set():
                self.step(*self._shown)

    def step(self, problems: Mapping[str, str], sources: Collection[str]) -> None:
        """Send what is due over every channel; errors stay with their channel."""
        for name in self._settings.channels:
            try:
                self._serve(name, problems, sources)
            except Exception as failure:  # noqa: BLE001 - kept, and tried again
                before = self._errors.get(name)
                self._errors[name] = exchange_error(Where("notify", name), failure, before)
            else:
                self._errors.pop(name, None)

    def _look(self) -> list[ResourceStatus]:
        """Return how every resource stood a moment ago; learn which sources fail."""
        now = self._monotonic()
        if self._looked is None or now - self._looked >= _LOOK.total_seconds():
            for name in self._node.settings.sources:
                failure = PullFailure.of(self._node.context.latest(failure_key(name)))
                self._failing[name] = failure.kind
            self._statuses = StatusReader(self._node)()
            self._looked = now
        return self._statuses

    def _lasting(self, sources: Collection[str], notified: Collection[str]) -> dict[str, str]:
        """Name what log and store say is wrong: of our sources, and of all that was told.

        One worker tells of a resource: the one that pulls its first source.
        """
        settings, now = self._node.settings.sources, self._node.clock()
        statuses = self._look()
        problems = {}
        for name, kind in self._failing.items():
            where = str(Where("pull", name))
            if kind and (name in sources or where in notified):
                problems[where] = kind
        first: dict[str, str] = {}
        for name, source in settings.items():
            first.setdefault(source.resource, name)
        for status in statuses:
            since = status.since("cascade")
            wrong = {
                "halt": bool(status.halted or status.deliveries.get(State.HALTED)),
                "refused": bool(status.deliveries.get(State.REFUSED)),
                "overdue": since is not None and now - since > self._settings.overdue,
            }
            for kind in (kind for kind, stands in wrong.items() if stands):
                where = str(Where(kind, status.resource))
                if first.get(status.resource) in sources or where in notified:
                    problems[where] = ""
        return problems

    def _serve(self, name: str, problems: Mapping[str, str], sources: Collection[str]) -> None:
        """Send over a channel what is due; it counts as sent when the channel took it."""
        settings, now = self._settings, self._node.clock()
        key = notices_key(self._node.worker, name)
        state = NoticeState.of(self._node.context.latest(key))
        rule = NoticeRule(settings.after, settings.repeat, settings.distance, settings.summary_time)
        title = self._node.settings.node.name
        standing = {**problems, **self._lasting(sources, state.notified)}
        if self._monotonic() - self._began < rule.after.total_seconds():
            # A run that has just begun does not know yet what it will meet again.
            standing = {**dict.fromkeys(state.notified, ""), **standing}
        notice, after = decide(state, standing, now, rule, title)
        if notice is not None:
            self.send(name, notice)
        if sources and summary_is_due(after, now, rule):
            self.send(name, summary_of(self._look(), title))
            after = summarised(after, now)
        if after != state:
            with self._node.context.log.transaction(key) as tx:
                tx.append(after.to_message(key))

    def send(self, name: str, notice: Notice) -> None:
        """Send a notice over a channel; raises our errors."""
        send_notice(self._node, self._settings, name, notice, self._monotonic)


def send_notice(
    node: Node,
    settings: NotifySettings,
    name: str,
    notice: Notice,
    monotonic: Callable[[], float],
) -> None:
    """Send a notice over one channel of the settings; raises our errors."""
    from exchange.run.channels import send_chat, send_mail

    channel = settings.channels[name]
    text, base = notice.text(settings.language), node.settings.folder

    def secret(reference: str) -> str:
        return node.settings.secret(reference, node.environ)

    match channel:
        case MailSettings():
            send_mail(channel, text, secret=secret, base=base)
        case ChatSettings():
            send_chat(
                channel, text, secret=secret, now=node.clock(), monotonic=monotonic, base=base
            )


def summary_of(statuses: list[ResourceStatus], node: str) -> Notice:
    """Sum up how every resource stands; batches and records are told apart."""
    lines = []
    for status in statuses:
        receipted = status.deliveries.get(State.RECEIPTED, 0)
        refused = status.deliveries.get(State.REFUSED, 0)
        lines.append(
            Text(
                f"{status.resource}：批次 {status.batches}，回执 {receipted}，待投递 "
                f"{status.waiting}，退回 {refused}；隔离记录 {status.quarantine}",
                f"{status.resource}: {status.batches} batches, {receipted} receipted, "
                f"{status.waiting} wait, {refused} refused; {status.quarantine} records in"
                " quarantine",
            )
        )
    return Notice(Text(f"【{node}】每日情况", f"[{node}] daily summary"), tuple(lines))
