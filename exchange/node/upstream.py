"""The way to the province (上级平台): what sends batches, and what asks for a witness."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING

from exchange.errors import Integrity, Misconfigured
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.cascade.delivery import Outcome
    from exchange.cascade.profiles import OutgoingBatch, Target
    from exchange.cascade.witness import Cosignature, WitnessedSize
    from exchange.evidence.checkpoint import Checkpoint, SignedNote
    from exchange.http.transport import Transport
    from exchange.pipeline.evidence import Ask
    from exchange.settings import Settings, Timeouts
    from exchange.settings.sections import UpstreamSettings


@dataclass
class Upstream:
    """The province as the settings describe it; nothing is connected before it is used."""

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    clock: Callable[[], datetime]
    resources: ExitStack
    """Closes what was opened."""

    @property
    def section(self) -> UpstreamSettings:
        """The settings of the province; raises Misconfigured when there are none."""
        if self.settings.upstream is None:
            raise Misconfigured(
                Text("没有配置上级平台", "no upstream is configured"),
                hint=Text("在 exchange.yaml 中填写 upstream", "fill in upstream: in exchange.yaml"),
            )
        return self.settings.upstream

    def sender(self) -> Callable[[OutgoingBatch], Outcome]:
        """Make what sends a batch to the province once; for use by one thread."""
        from exchange.cascade.profiles import attempt, profile

        target, transport = self._service(self.section.path)
        rules, post = profile(self.section.profile), transport.post
        return lambda batch: attempt(batch, target, profile=rules, post=post, now=self.clock)

    @property
    def witness(self) -> Ask | None:
        """What asks the province to sign a checkpoint along; None when it is not asked."""
        section = self.settings.upstream
        return self._ask_witness if section is not None and section.witness is not None else None

    def _ask_witness(
        self, note: SignedNote, old: int, proof: Sequence[bytes], certificates: Sequence[bytes]
    ) -> Cosignature | WitnessedSize:
        from exchange.cascade.witness import ask

        target, transport = self._witness_service
        return ask(
            note.to_bytes(),
            old=old,
            proof=proof,
            certificates=certificates,
            target=target,
            post=transport.post,
            now=self.clock,
        )

    def seen_by_witness(self, origin: str, timeouts: Timeouts | None = None) -> Checkpoint | None:
        """Ask the witness what it has seen of a log last; None: nothing.

        Raises as :func:`exchange.cascade.witness.ask`, Integrity for what is no checkpoint.
        """
        from exchange.cascade.witness import ask_seen
        from exchange.evidence.checkpoint import Checkpoint

        target, transport = self._service(self.section.witness or "", timeouts)
        text = ask_seen(origin, target=target, get=transport.get, now=self.clock)
        try:
            checkpoint = None if text is None else Checkpoint.from_bytes(text)
        except ValueError:
            checkpoint = None
        if text is not None and (checkpoint is None or checkpoint.head.origin != origin):
            raise Integrity(
                Text(
                    f"上级所见不是 {origin} 的检查点",
                    f"what the province has seen is no checkpoint of {origin}",
                ),
                hint=Text("请与省级平台核对", "settle it with the province"),
            )
        return checkpoint

    def clock_ahead(self) -> timedelta | None:
        """Compare clocks: how far the province's is ahead of ours; None: it does not say.

        By the ``Date`` of any answer (RFC 9110 §6.6.1), which has whole seconds.
        """
        from exchange.http.message import Request

        target, transport = self._service(self.section.path)
        began = self.clock()
        answer = transport.get(Request(f"{target.endpoint.rstrip('/')}/healthz", {}))
        ours = began + (self.clock() - began) / 2
        try:
            theirs = parsedate_to_datetime(answer.headers["date"])
        except (KeyError, ValueError):
            return None
        return theirs.replace(tzinfo=theirs.tzinfo or UTC) - ours

    @cached_property
    def _witness_service(self) -> tuple[Target, Transport]:
        """The way to the witness; for use by one thread."""
        return self._service(self.section.witness or "")

    def _service(self, path: str, timeouts: Timeouts | None = None) -> tuple[Target, Transport]:
        """Open the way to one service of the province."""
        from exchange.cascade.profiles import Target
        from exchange.cascade.signing import Credentials
        from exchange.http.transport import Transport

        section = self.section
        transport = Transport(
            section.endpoint,
            monotonic=time.monotonic,
            timeouts=timeouts or section.timeouts,
            ca=self.settings.resolve(section.ca) if section.ca else None,
            insecure_http=section.insecure_http,
        )
        self.resources.callback(transport.close)
        secret = self.settings.secret(section.secret, self.environ)
        credentials = Credentials(section.rid, section.sid, secret)
        target = Target(section.endpoint, credentials, path, section.sign_body)
        return target, transport
