"""A node (节点): opens what ``exchange.yaml`` names, and hands it to the stages.

The composition root: the only place that knows which driver, key and address stand behind the
protocols. Everything is opened on first use and closed together.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from exchange.errors import Misconfigured
from exchange.node.topics import Topics, common_topics
from exchange.settings import Settings, SourceSettings
from exchange.text import Text

if TYPE_CHECKING:
    from polars import DataFrame

    from exchange.cascade.delivery import Outcome, Policy
    from exchange.cascade.profiles import OutgoingBatch
    from exchange.catalog.model import Catalog, Resource
    from exchange.connect import Connector, Source
    from exchange.log import Log
    from exchange.log.kafka import KafkaLog
    from exchange.node.seals import NodeSeals
    from exchange.node.upstream import Upstream
    from exchange.pipeline.context import PipelineContext
    from exchange.pipeline.deliver import DeliverStage
    from exchange.pipeline.evidence import EvidenceStage
    from exchange.pipeline.project import ProjectStage
    from exchange.pipeline.pull import PullSource, PullStage
    from exchange.pipeline.seal import SealStage
    from exchange.pipeline.seal_register import SealRegister
    from exchange.seal.pki.trust import Trust
    from exchange.settings.working_days import WorkingDays
    from exchange.store.database import Store
    from exchange.store.glance import Glance


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
        from exchange.catalog.loader import load as load_catalog

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
    def working_days(self) -> WorkingDays | None:
        """The working days of the settings; raises Misconfigured for a table that is none."""
        from exchange.settings.working_days import read_working_days

        path = self.settings.working_days
        return None if path is None else read_working_days(self.settings.resolve(path))

    @cached_property
    def log(self) -> Log:
        """The log."""
        log: Log
        if self.settings.log.driver == "kafka":
            log = self.cluster
        else:
            from exchange.log.embedded.log import EmbeddedLog

            path = self.settings.resolve(self.settings.log.path)
            if not path.is_file():
                from exchange.node.lost_log import check_file

                check_file(self)
            path.parent.mkdir(parents=True, exist_ok=True)
            log = EmbeddedLog(path, clock=self.clock)
            self._open.callback(log.close)
        log.ensure(common_topics(self.settings))
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

    @cached_property
    def store(self) -> Store:
        """The store, migrated when it is ours alone.

        Raises Integrity where the log remembers one and there is none: no empty one is made.
        """
        from exchange.node.part_marks import check_store_file
        from exchange.store.database import open_store

        check_store_file(self)
        self.settings.resolve(self.settings.state).mkdir(parents=True, exist_ok=True)
        store = open_store(self.settings.url(self.settings.store, self.environ), clock=self.clock)
        self._open.callback(store.close)
        return store

    def make_store(self) -> Store:
        """Open the store, and make one where it was lost: for those who rebuild it."""
        from exchange.store.database import open_store

        if "store" not in vars(self):
            self.settings.resolve(self.settings.state).mkdir(parents=True, exist_ok=True)
            url = self.settings.url(self.settings.store, self.environ)
            vars(self)["store"] = open_store(url, clock=self.clock)
            self._open.callback(self.store.close)
        return self.store

    def close_log(self) -> None:
        """Close the log: another file takes its place."""
        if "log" in vars(self):
            self.log.close()
        for name in ("log", "context", "topics", "seal_register"):
            vars(self).pop(name, None)

    def glance(self) -> Glance:
        """Return what a status asks of the store; a file is not opened as a store for that."""
        from exchange.store.glance import FileGlance, StoreGlance

        if "store" not in vars(self):
            file = FileGlance.of(self.settings.url(self.settings.store, self.environ))
            if file is not None:
                return file
        return StoreGlance(self.store)

    @cached_property
    def context(self) -> PipelineContext:
        """What the stages work with."""
        from exchange.pipeline.context import PipelineContext

        return PipelineContext(
            self.catalog,
            self.log,
            self.clock,
            self.entropy,
            self.failpoint,
            partitions_of=self.settings.log.partitions_of,
        )

    @cached_property
    def topics(self) -> Topics:
        """What stands in the topics of the log."""
        from exchange.catalog.loader import resource_names

        if "catalog" in vars(self):  # loaded: the files need not be read again
            names = list(self.catalog.resources)
        else:
            names = resource_names(self.settings.resolve(self.settings.catalog))
        return Topics(self.settings, self.log, names)

    @cached_property
    def seals(self) -> NodeSeals:
        """The seals of the settings."""
        from exchange.node.seals import NodeSeals

        return NodeSeals(
            self.settings,
            self.environ,
            self.clock,
            self.entropy,
            self._seal_state,
            self._open,
        )

    @cached_property
    def seal_register(self) -> SealRegister:
        """The register of seals, as the log has it."""
        from exchange.pipeline.seal_register import SealRegister

        return SealRegister(self.log, self.clock)

    def _seal_state(self, es_id: str) -> str | None:
        """Read the state of a seal; from the store while the log has nothing of its register."""
        from exchange.node.part_marks import lost_store

        register = self.seal_register
        if register.rows() or lost_store(self):
            return register.state(es_id)
        return self.store.seals.state(es_id)

    @cached_property
    def upstream(self) -> Upstream:
        """The way to the province."""
        from exchange.node.upstream import Upstream

        return Upstream(self.settings, self.environ, self.clock, self._open)

    @property
    def owner(self) -> str:
        """Name of this worker; the same after a restart, so that it takes up what it left."""
        return f"{socket.gethostname()[:60]}:{self.settings.node.code}:{self.worker[:60]}"

    def source_settings(self, name: str) -> SourceSettings:
        """Return a source's settings; raises Misconfigured naming the ones there are."""
        if name in self.settings.sources:
            return self.settings.sources[name]
        names = ", ".join(self.settings.sources) or "-"
        raise Misconfigured(
            Text(f"没有名为 {name} 的数据源", f"there is no source {name}"),
            hint=Text(f"已配置：{names}", f"configured: {names}"),
        )

    def source(self, name: str, options: Mapping[str, object] = MappingProxyType({})) -> Source:
        """Open a source; nothing is connected yet. ``options`` stand in for its settings."""
        from exchange.connect import find

        settings = self.source_settings(name)
        kind = settings.connector
        if kind not in self._connectors:  # looking through what is installed costs 10 ms
            self._connectors[kind] = find(kind, base=self.settings.folder)
        return self._connectors[kind].open(
            {**settings.options, **options},
            lambda reference: self.settings.secret(reference, self.environ),
            now=self.clock,
            base=self.settings.folder,
        )

    def trust(self, paths: tuple[Path, ...]) -> Trust:
        """Read trust anchors (信任根)."""
        from exchange.node.seals import trust

        return trust(self.settings, paths)

    # --- stages ---------------------------------------------------------------------------

    def pull_stage(self, name: str) -> PullStage:
        """Open the stage that pulls a source."""
        from exchange.pipeline.pull import PullStage

        resource = self.context.resource(self.source_settings(name).resource)
        drift = self.source_settings(name).drift
        draft = partial(self._draft, name) if drift == "draft" else None
        source = self._pulled(name, resource)
        return PullStage(self.context, name, resource.name, source, drift == "stop", draft)

    def _draft(self, name: str, frame: DataFrame) -> None:
        """Write a draft of the catalog entry for what a source brings now."""
        from exchange.node.drift_draft import write_draft

        folder = self.settings.resolve(self.settings.state) / "drafts"
        resource = self.context.resource(self.source_settings(name).resource)
        write_draft(folder / f"{name}.yaml", frame, resource, self.catalog, self.clock())

    def _pulled(self, name: str, resource: Resource) -> PullSource:
        """Return what is pulled of a source: itself, or the difference of its states."""
        from exchange.pipeline.difference import DifferenceSource

        difference = self.source_settings(name).difference
        if difference is None:
            return self.source(name)
        return DifferenceSource(
            name,
            self.source(name),
            resource,
            self.difference_folder(name),
            difference.most_deleted,
            self.entropy,
            self.failpoint,
        )

    def difference_folder(self, name: str) -> Path:
        """Return where the delivered state of a source is kept."""
        return self.settings.resolve(self.settings.state) / "difference" / name

    def seal_stage(self, resource: str) -> SealStage:
        """Open the stage that checks and seals a resource."""
        from exchange.pipeline.seal import SealStage

        contract = self.context.resource(resource)
        self.seals.of(contract)  # what is missing is told now, not with the first records
        return SealStage(self.context, contract, lambda: self.seals.ready(contract))

    def project_stage(self, resource: str) -> ProjectStage:
        """Open the stage that shows a resource in the store."""
        from exchange.pipeline.project import ProjectStage

        return ProjectStage(self.context, resource, self.store)

    def deliver_stage(
        self, resource: str, send: Callable[[OutgoingBatch], Outcome], policy: Policy
    ) -> DeliverStage:
        """Open the stage that delivers a resource to the province."""
        from exchange.pipeline.deliver import DeliverStage

        upstream = self.settings.upstream
        return DeliverStage(
            self.context,
            self.context.resource(resource),
            self.store,
            send,
            self.trust(upstream.trust if upstream is not None else ()),
            self.owner,
            policy,
        )

    def evidence_stage(self) -> EvidenceStage:
        """Open the stage of the evidence log; raises Locked while another process has it."""
        from exchange.pipeline.evidence import EvidenceStage

        settings, upstream = self.settings.evidence, self.settings.upstream
        return EvidenceStage.open(
            self.context,
            self.settings.resolve(settings.folder),
            self.origin,
            sealer=self.seals.of_evidence,
            resources=self.topics.resources(),
            ask=self.upstream.witness,
            witnesses=self.trust(upstream.trust) if upstream is not None else None,
            trail=lambda: self.store.audit.ends(),  # noqa: PLW0108 - opened when asked
        )

    @property
    def origin(self) -> str:
        """Name of the node's evidence log."""
        return self.settings.evidence.origin or f"exchange/{self.settings.node.code}"
