"""A node (节点): opens what ``exchange.yaml`` names, and hands it to the corridor.

The composition root: the only place that knows which driver, key and address stand behind the
protocols. Everything is opened on first use and closed together.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from zlib import crc32

from exchange.catalog.loader import load as load_catalog
from exchange.catalog.model import Catalog, Resource
from exchange.errors import Misconfigured
from exchange.log import (
    CURSORS,
    EVIDENCE,
    RECEIPTS,
    TURNS,
    Consumer,
    Log,
    Topic,
    quarantine_topic,
    raw_topic,
    sealed_topic,
)
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.deliver import DeliverStage
from exchange.pipeline.evidence import Ask, EvidenceStage
from exchange.pipeline.project import ProjectStage
from exchange.pipeline.pull import PullStage
from exchange.pipeline.seal import SealStage
from exchange.seal.eseal.folder import Key, key_at, open_sealer, read_certificates, read_keys
from exchange.seal.eseal.lifecycle import State, admit
from exchange.seal.eseal.signature import Sealer
from exchange.seal.pki.signers import GuardedSigner
from exchange.seal.pki.trust import Trust
from exchange.settings import SealSettings, Settings, SourceSettings
from exchange.store.database import Store, open_store
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.cascade.delivery import Outcome, Policy
    from exchange.cascade.profiles import Batch, Target
    from exchange.cascade.witness import Cosigned, Seen
    from exchange.connect import Connector, Source
    from exchange.evidence.checkpoint import Note
    from exchange.http.message import Request, Response
    from exchange.log.kafka import KafkaLog
    from exchange.seal.pki.stamping import Stamping

_LOGGER = logging.getLogger(__name__)

_TURNS = 64
"""Shares of the sources on a cluster: more than there will be workers that pull."""


@dataclass(frozen=True)
class Turns:
    """Which worker pulls which source (数据源分派), by the partitions of a topic without messages.

    The consumer group gives every partition to one worker: that worker runs the source.
    """

    consumer: Consumer
    partitions: int
    names: tuple[str, ...]

    def sources(self) -> set[str]:
        """Return the sources that are this worker's now."""
        mine = {partition for _, partition in self.consumer.assigned()}
        return {name for name in self.names if crc32(name.encode()) % self.partitions in mine}

    def close(self) -> None:
        """Leave the turns to the others."""
        self.consumer.close()


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)


@dataclass
class Node:
    """One node, opened from its settings; use it as a context manager."""

    settings: Settings
    clock: Callable[[], datetime] = utc_now
    entropy: Callable[[int], bytes] = secrets.token_bytes
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    failpoint: Callable[[str], None] = lambda _name: None
    worker: str = ""
    """Name of this process among the workers of a cluster; the same after a restart."""

    def __post_init__(self) -> None:
        """Open nothing yet."""
        self._open = ExitStack()
        self._sealers: dict[str, tuple[Key, Sealer]] = {}
        self._connectors: dict[str, Connector] = {}

    def __enter__(self) -> Self:
        """Return the node itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything that was opened."""
        self._open.close()

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog of the node."""
        return load_catalog(self.settings.resolve(self.settings.catalog))

    def take_up_catalog(self) -> None:
        """Apply what changed in the catalog; a breaking change needs `exchange catalog apply`.

        Raises Rejected for a breaking change, so that no run seals under a contract that
        nobody consented to.
        """
        from exchange.catalog.plan import apply

        apply(
            self.catalog,
            state_dir=self.settings.resolve(self.settings.state),
            schemas_dir=self.settings.resolve(self.settings.schemas),
        )

    @cached_property
    def log(self) -> Log:
        """The log."""
        log: Log
        if self.settings.log.driver == "kafka":
            log = self.cluster
        else:
            from exchange.log.embedded.log import EmbeddedLog

            path = self.settings.resolve(self.settings.log.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            log = EmbeddedLog(path, clock=self.clock)
            self._open.callback(log.close)
        log.ensure(self._common())
        return log

    @cached_property
    def cluster(self) -> KafkaLog:
        """The log's cluster as it stands: no topic is made."""
        try:
            from exchange.log.kafka import KafkaLog
        except ModuleNotFoundError as error:
            raise Misconfigured(
                Text("没有安装 Kafka 客户端", "the Kafka client is not installed"),
                hint=Text(
                    "运行 pip install 'gov-exchange[node,kafka]'",
                    "pip install 'gov-exchange[node,kafka]'",
                ),
            ) from error
        settings = self.settings.log.kafka
        assert settings is not None  # noqa: S101 - asked for with driver kafka only
        cluster = KafkaLog(
            settings,
            secret=lambda reference: self.settings.secret(reference, self.environ),
            base=self.settings.folder,
            worker=self.worker,
        )
        self._open.callback(cluster.close)
        return cluster

    def _common(self) -> list[Topic]:
        turns = _TURNS if self.settings.log.driver == "kafka" else 1
        return [
            *(Topic(CURSORS, compacted=True), Topic(RECEIPTS), Topic(EVIDENCE)),
            Topic(TURNS, turns),
        ]

    def topics(self) -> list[Topic]:
        """List the topics that the node's work needs, with the partitions that each should have."""
        named = (raw_topic, sealed_topic, quarantine_topic)
        return [
            *self._common(),
            *(
                Topic(topic(resource), self.settings.log.partitions_of(resource))
                for resource in sorted({one.resource for one in self.settings.sources.values()})
                for topic in named
            ),
        ]

    @cached_property
    def store(self) -> Store:
        """The store, migrated when it is ours alone."""
        self.settings.resolve(self.settings.state).mkdir(parents=True, exist_ok=True)
        store = open_store(self.settings.url(self.settings.store, self.environ), clock=self.clock)
        self._open.callback(store.close)
        return store

    @cached_property
    def context(self) -> PipelineContext:
        """What the doors work with."""
        return PipelineContext(
            self.catalog,
            self.log,
            self.clock,
            self.entropy,
            self.failpoint,
            partitions_of=self.settings.log.partitions_of,
        )

    @property
    def owner(self) -> str:
        """Name of this worker; the same after a restart, so that it takes up what it left."""
        return f"{socket.gethostname()[:60]}:{self.settings.node.code}:{self.worker[:60]}"

    def resources(self) -> list[str]:
        """List the resources that are fed by a source or have anything in the log."""
        fed = {source.resource for source in self.settings.sources.values()}
        return sorted((self._logged() | fed) & self.catalog.resources.keys())

    def dropped(self) -> list[str]:
        """List resources that the catalog has no more, though the log holds work for them."""
        readers = (("seal", raw_topic), ("cascade", sealed_topic))
        dropped = self._logged() - self.catalog.resources.keys()
        if not dropped:
            return []
        return sorted(
            {
                name
                for name in dropped
                for group, named in readers
                for topic in self.log.topics()
                if topic.name == named(name)
                for partition in range(topic.partitions)
                if self.log.position(group, topic.name, partition)
                < self.log.bounds(topic.name, partition)[1]
            }
        )

    def _logged(self) -> set[str]:
        heads = ("exchange.raw.", "exchange.sealed.", "exchange.quarantine.")
        return {
            topic.name.removeprefix(head)
            for topic in self.log.topics()
            for head in heads
            if topic.name.startswith(head)
        }

    def source_settings(self, name: str) -> SourceSettings:
        """Return a source's settings; raises Misconfigured naming the ones there are."""
        if name in self.settings.sources:
            return self.settings.sources[name]
        known = ", ".join(self.settings.sources) or "-"
        raise Misconfigured(
            Text(f"没有名为 {name} 的数据源", f"there is no source {name}"),
            hint=Text(f"已配置：{known}", f"configured: {known}"),
        )

    def source(self, name: str) -> Source:
        """Open a source; nothing is connected yet."""
        from exchange.connect import find

        settings = self.source_settings(name)
        kind = settings.connector
        if kind not in self._connectors:  # looking through what is installed costs 10 ms
            self._connectors[kind] = find(kind, base=self.settings.folder)
        return self._connectors[kind].open(
            settings.options,
            lambda reference: self.settings.secret(reference, self.environ),
            now=self.clock,
            base=self.settings.folder,
        )

    def sealer(self, resource: Resource) -> Sealer:
        """Return the seal of the resource's department, or the node's ``default`` one.

        Its key is the one of this moment. It asks the register before every signature.
        """
        return self.seal_named(self.seal_name(resource.department.id))

    def seal_named(self, name: str) -> Sealer:
        """Return a seal by the name that the settings have for it."""
        seal = self.settings.seals[name]
        key = self.seal_key(seal)
        known, sealer = self._sealers.get(name, (None, None))
        if sealer is None or known != key:
            sealer = self._guarded(name, self.open_seal(seal, key))
            self._sealers[name] = key, sealer
        return sealer

    def seal_name(self, department: str) -> str:
        """Return the name that the settings have for a department's seal."""
        seals = self.settings.seals
        name = department if department in seals else "default"
        if name not in seals:
            raise Misconfigured(
                Text(f"部门 {department} 没有电子印章", f"department {department} has no seal"),
                hint=Text(
                    f"在 seals 下登记 {department} 或 default",
                    f"name a folder for {department} or default under seals:",
                ),
            )
        return name

    def seal_key(self, seal: SealSettings) -> Key:
        """Return the key of a seal that signs now."""
        return key_at(read_keys(self.settings.resolve(seal.folder)), self.clock())

    def ready(self, resource: Resource) -> Sealer:
        """Return the seal when it may seal now.

        Raises Denied when the register does not let it, Transient when the patience with the
        time-stamping authority is used up.
        """
        sealer = self.sealer(resource)
        if self.stamping is not None:
            self.stamping.ready()
        self._admit(self.seal_name(resource.department.id), sealer.details.info.es_id)
        return sealer

    def _guarded(self, name: str, sealer: Sealer) -> Sealer:
        es_id = sealer.details.info.es_id
        guard = GuardedSigner(sealer.signer, lambda: self._admit(name, es_id))
        stamping = self.stamping
        stamp = partial(stamping.stamp, suite=sealer.suite) if stamping is not None else None
        return replace(sealer, signer=guard, stamp=stamp)

    @property
    def patience_file(self) -> Path:
        """Where it stands for how long the time-stamping authority has been away."""
        return self.settings.resolve(self.settings.state) / "tsa.json"

    @cached_property
    def stamping(self) -> Stamping | None:
        """What gets time stamps for seals; None when no authority is configured."""
        section = self.settings.tsa
        if section is None:
            return None
        from exchange.http.timestamps import post_to
        from exchange.http.transport import Transport
        from exchange.seal.pki.stamping import Stamping
        from exchange.seal.pki.timestamp import MAX_TOKEN_BYTES
        from exchange.seal.pki.trust import Trust

        transport = Transport(
            section.url,
            monotonic=time.monotonic,
            timeouts=section.timeouts,
            max_answer=MAX_TOKEN_BYTES,
            ca=self.settings.resolve(section.ca) if section.ca else None,
            insecure_http=section.insecure_http,
        )
        self._open.callback(transport.close)
        return Stamping(
            post=post_to(section.url, transport.post),
            trust=Trust(self.anchors(section.trust)),
            entropy=self.entropy,
            clock=self.clock,
            path=self.patience_file,
            allowed=section.patience,
            say=lambda text: _LOGGER.warning("%s · %s", text.zh, text.en),
        )

    def _admit(self, name: str, es_id: str) -> None:
        found = self.store.seals.state(es_id)
        admit(State(found) if found is not None else None, name)

    def open_seal(self, seal: SealSettings, key: Key | None = None) -> Sealer:
        """Open a seal folder, with the key of this moment or another."""
        folder = self.settings.resolve(seal.folder)
        key = key or self.seal_key(seal)
        return open_sealer(
            folder / key.folder,
            key=key.address or seal.key,
            password=key.password or seal.password,
            environ=self.environ,
        )

    def anchors(self, paths: tuple[Path, ...]) -> tuple[bytes, ...]:
        """Read trust anchors (信任根), DER."""
        found = (read_certificates(self.settings.resolve(path)) for path in paths)
        return tuple(certificate for certificates in found for certificate in certificates)

    def turns(self) -> Turns:
        """Join the workers that share the sources out among them."""
        (topic,) = [topic for topic in self.log.topics() if topic.name == TURNS]
        return Turns(
            self.log.consumer("pull", [TURNS]), topic.partitions, tuple(self.settings.sources)
        )

    def backlog(self, resource: str) -> int:
        """Count the messages that wait for the province in a resource's partitions."""
        sealed = sealed_topic(resource)
        return sum(
            self.log.bounds(sealed, partition)[1] - self.log.position("cascade", sealed, partition)
            for topic in self.log.topics()
            if topic.name == sealed
            for partition in range(topic.partitions)
        )

    # --- doors ----------------------------------------------------------------------------

    def pull_stage(self, name: str) -> PullStage:
        """Open the door of a source."""
        resource = self.context.resource(self.source_settings(name).resource)
        return PullStage(self.context, name, resource.name, self.source(name))

    def seal_stage(self, resource: str) -> SealStage:
        """Open the door that checks and seals a resource."""
        found = self.context.resource(resource)
        self.sealer(found)  # what is missing is told now, not with the first records
        return SealStage(self.context, found, lambda: self.ready(found))

    def project_stage(self, resource: str) -> ProjectStage:
        """Open the door to the store."""
        return ProjectStage(self.context, resource, self.store)

    def deliver_stage(
        self, resource: str, send: Callable[[Batch], Outcome], policy: Policy
    ) -> DeliverStage:
        """Open the door to the province."""
        upstream = self.settings.upstream
        trust = upstream.trust if upstream is not None else ()
        return DeliverStage(
            self.context,
            self.context.resource(resource),
            self.store,
            send,
            self.anchors(trust),
            self.owner,
            policy,
        )

    def evidence_stage(self) -> EvidenceStage:
        """Open the door to the evidence log; raises Locked while another process has it."""
        settings, upstream = self.settings.evidence, self.settings.upstream
        witnessed = upstream is not None and upstream.witness is not None
        return EvidenceStage.open(
            self.context,
            self.settings.resolve(settings.folder),
            self.origin,
            sealer=self.evidence_sealer,
            resources=self.resources(),
            ask=self._ask_witness if witnessed else None,
            witnesses=Trust(self.anchors(upstream.trust)) if upstream is not None else None,
        )

    @property
    def origin(self) -> str:
        """Name of the node's evidence log."""
        return self.settings.evidence.origin or f"exchange/{self.settings.node.code}"

    def evidence_sealer(self) -> Sealer:
        """Return the seal whose key signs the checkpoints of the evidence log."""
        seals = self.settings.seals
        usual = "default" if "default" in seals else next(iter(seals), "-")
        name = self.settings.evidence.seal or usual
        if name not in seals:
            raise Misconfigured(
                Text(f"没有名为 {name} 的印章", f"there is no seal {name}"),
                hint=Text("请检查 evidence.seal 与 seals", "check evidence.seal and seals"),
            )
        return self.seal_named(name)

    def _ask_witness(
        self, note: Note, old: int, proof: Sequence[bytes], certificates: Sequence[bytes]
    ) -> Cosigned | Seen:
        return self._witness(note, old, proof, certificates)  # made when it is asked first

    @cached_property
    def _witness(self) -> Ask:
        """What asks the province to sign a checkpoint along; for use by one thread."""
        from exchange.cascade.witness import ask

        assert self.settings.upstream is not None  # noqa: S101 - the caller has looked
        target, post = self._province(self.settings.upstream.witness or "")
        return lambda note, old, proof, certificates: ask(
            note.to_bytes(),
            old=old,
            proof=proof,
            certificates=certificates,
            target=target,
            post=post,
            now=self.clock,
        )

    def sender(self) -> Callable[[Batch], Outcome]:
        """Make what sends a batch to the province once; for use by one thread."""
        from exchange.cascade.profiles import attempt, profile

        upstream = self.settings.upstream
        if upstream is None:
            raise Misconfigured(
                Text("没有配置上级平台", "no upstream is configured"),
                hint=Text("在 exchange.yaml 中填写 upstream", "fill in upstream: in exchange.yaml"),
            )
        target, post = self._province(upstream.path)
        chosen = profile(upstream.profile)
        return lambda batch: attempt(batch, target, profile=chosen, post=post, now=self.clock)

    def _province(self, path: str) -> tuple[Target, Callable[[Request], Response]]:
        """Open the way to one service of the province."""
        from exchange.cascade.profiles import Target
        from exchange.cascade.signing import Credentials
        from exchange.http.transport import Transport

        upstream = self.settings.upstream
        assert upstream is not None  # noqa: S101 - callers have looked
        transport = Transport(
            upstream.endpoint,
            monotonic=time.monotonic,
            timeouts=upstream.timeouts,
            ca=self.settings.resolve(upstream.ca) if upstream.ca else None,
            insecure_http=upstream.insecure_http,
        )
        self._open.callback(transport.close)
        secret = self.settings.secret(upstream.secret, self.environ)
        target = Target(upstream.endpoint, Credentials(upstream.rid, upstream.sid, secret), path)
        return target, transport.post
