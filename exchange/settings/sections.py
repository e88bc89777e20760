"""The sections of ``exchange.yaml``: small frozen values that refuse nonsense.

Secrets stand in the file by reference only (``env:NAME`` or ``file:path``) and are read at the
moment of use; they are never part of a settings value, so no repr or log can show them.
Relative paths count from the folder of the settings file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from exchange.secrets import REFERENCES, read_secret
from exchange.settings.cron import next_time
from exchange.settings.notify import NotifySettings
from exchange.settings.timeouts import Timeouts
from exchange.settings.values import (
    Duration,
    Identifier,
    Reference,
    Seconds,
)
from exchange.settings.values import (
    SettingsSection as _Frozen,
)
from exchange.settings.values import (
    wrong as _wrong,
)
from exchange.text import BEIJING

_LONGEST_PAUSE = timedelta(days=3660)
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def _switch(value: object) -> object:
    """Read true as a section of defaults, false as none."""
    if isinstance(value, bool | str):
        try:
            return {} if TypeAdapter(bool).validate_python(value) else None
        except ValidationError:
            return value
    return value


def _cron(expression: str) -> str:
    try:
        next_time(expression, _ANY_TIME)
    except ValueError as error:
        raise _wrong(
            f"“{expression}”不是五段 cron 表达式，或永不到来",
            f"'{expression}' is no cron expression of five fields, or never comes",
        ) from error
    return expression


class _Outgoing(_Frozen):
    """A section whose connections go out; ``total_seconds`` stands before the other two."""

    if TYPE_CHECKING:
        total_seconds: float
        connect_seconds: float
        read_seconds: float

    @field_validator("connect_seconds", "read_seconds", check_fields=False)
    @classmethod
    def _within_total(cls, seconds: float, info: ValidationInfo) -> float:
        total = info.data.get("total_seconds", seconds)
        if seconds > total:
            raise _wrong(
                f"{seconds:g} 秒超过 total_seconds（{total:g} 秒）",
                f"{seconds:g} s is more than total_seconds, {total:g} s",
            )
        return seconds

    @property
    def timeouts(self) -> Timeouts:
        """The time limits of a request."""
        return Timeouts(self.connect_seconds, self.read_seconds, self.total_seconds)


class NodeIdentity(_Frozen):
    """Who this node is; ``code`` is its administrative division (行政区划代码)."""

    code: Annotated[str, Field(pattern=r"^\d{6}(\d{3}|\d{6})?$")]
    name: str


class DifferenceSettings(_Frozen):
    """How a source that gives everything is compared with what was delivered of it.

    ``most_deleted``: of the rows that were there, the share that may be gone without a person's
    word.
    """

    most_deleted: Annotated[float, Field(gt=0, le=1)] = 0.3


_HOURS = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)")


def _hours(text: str) -> str:
    match = _HOURS.fullmatch(text.strip())
    if match is None or (match[3] == "24" and match[4] != "00") or _span(match) is None:
        raise _wrong(
            f"“{text}”不是一段时间，应写成 22:00-06:00", f"'{text}' is no span such as 22:00-06:00"
        )
    return text.strip()


def _span(match: re.Match[str]) -> tuple[time, time] | None:
    first = time(int(match[1]), int(match[2]))
    last = time(int(match[3]) % 24, int(match[4]))
    return None if first == last else (first, last)


class SourceSettings(_Frozen):
    """One source (数据源): a connector, the resource it feeds and when it runs.

    ``every`` is a duration, ``cron`` a five-field expression; neither means: with every
    ``run --once`` only.
    ``with`` holds the connector's own settings. ``drift`` says what happens when a
    column vanishes that the catalog names for an optional field, or one appears.
    ``difference`` (``true``, or a section): only what changed between two pulls is delivered,
    deletions too. ``timeout``: a pull is given up when the source brings nothing for so long;
    ``retry``: the pause after one that failed. ``hours`` (``22:00-06:00``, Beijing time) and
    ``days`` say when it may be pulled.
    """

    resource: Identifier
    connector: str
    every: Annotated[Duration, Field(gt=timedelta(), le=_LONGEST_PAUSE)] | None = None
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    hours: Annotated[str, AfterValidator(_hours)] | None = None
    days: Literal["all", "working"] = "all"
    timeout: Annotated[Duration, Field(gt=timedelta(), le=timedelta(days=1))] = timedelta(
        minutes=30
    )
    retry: Annotated[Duration, Field(gt=timedelta(), le=timedelta(days=1))] = timedelta(minutes=1)
    drift: Literal["stop", "warn", "draft"] = "warn"
    difference: Annotated[DifferenceSettings | None, BeforeValidator(_switch)] = None
    options: Mapping[str, Any] = Field(default_factory=dict, alias="with")

    @property
    def span(self) -> tuple[time, time] | None:
        """From when to when it may be pulled; the end may be past midnight."""
        match = _HOURS.fullmatch(self.hours or "")
        return None if match is None else _span(match)


class PullSettings(_Frozen):
    """How many sources a worker pulls beside each other."""

    parallel: Annotated[int, Field(ge=1, le=256)] = 8


class SealSettings(_Frozen):
    """A department's seal (电子印章): the folder of its key, certificate, seal and chain.

    ``key`` and ``password`` count from that folder.
    """

    folder: Path
    key: str = "file:key.pem"
    password: Reference | None = None


class DelegationSettings(_Frozen):
    """A seal may seal for a department that does not own it (委托代章), up to and with a day.

    ``seal`` is the number of the seal (印章标识), ``department`` the code of the department.
    """

    seal: Annotated[str, Field(min_length=1, max_length=128)]
    department: Annotated[str, Field(pattern=r"^[0-9A-Z]{18}$")]
    until: date
    reason: Annotated[str, Field(min_length=1, max_length=200)]

    @property
    def ends(self) -> datetime:
        """When it ends: with its last day, by Beijing time."""
        return datetime.combine(self.until, time(), BEIJING) + timedelta(days=1)


class UpstreamSettings(_Outgoing):
    """The province's interface (上级平台) and whom we trust for its receipts."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s?#]*)?$")]
    profile: str = "national"
    rid: str
    sid: str
    path: str = "batch"
    secret: Reference
    total_seconds: Seconds = 300
    connect_seconds: Seconds = 5
    read_seconds: Seconds = 60
    ca: Path | None = None
    insecure_http: bool = False
    trust: tuple[Path, ...]
    backlog: Annotated[int, Field(ge=1)] = 10_000
    witness: str | None = "witness"
    sign_body: bool = False


AnyOr = Literal["any"]
"""Everything, where else a list says what."""


class ReceiverClient(_Frozen):
    """One caller of the receiver: its identity (rid), its secret, and what it may do.

    What is not named is refused: ``departments`` (codes), ``resources`` and ``seals`` (numbers)
    of the batches it may deliver, ``roots`` (PEM) under which their seals may stand, ``origins``
    of the evidence logs it may show. ``any`` allows everything; of ``roots`` the receiver's.
    """

    rid: Annotated[str, Field(min_length=1, max_length=128)]
    secret: Reference
    departments: AnyOr | tuple[Annotated[str, Field(pattern=r"^[0-9A-Z]{18}$")], ...] = ()
    resources: AnyOr | tuple[Identifier, ...] = ()
    seals: AnyOr | tuple[str, ...] = ()
    roots: AnyOr | tuple[Path, ...] = ()
    origins: AnyOr | tuple[str, ...] = ()
    delegations: tuple[DelegationSettings, ...] = ()
    sign_body: bool = False


class ReceiverSettings(_Frozen):
    """The receiving side (the province, or its simulation)."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8470
    share_port: bool = False
    folder: Path
    store: str
    sid: str
    path: str = "batch"
    clients: tuple[ReceiverClient, ...]
    seal: SealSettings
    trust: tuple[Path, ...]
    clock_skew: Duration = timedelta(minutes=10)
    sealed_ahead: Annotated[Duration, Field(ge=timedelta(), le=timedelta(minutes=10))] = timedelta(
        minutes=1
    )
    province: str = "23"
    witness: str = "witness"
    witness_name: Annotated[str, Field(pattern=r"^[!-*,-~]{1,128}$")] = "province"
    certificate: Path | None = None
    key: Path | None = None


class EvidenceSettings(_Frozen):
    """The evidence log (存证日志): its folder, its name for ever, and whose seal signs it.

    Without ``origin`` it is ``exchange/<node.code>``; without ``seal`` it is ``default``, or the
    first one that the settings name. ``every``: how often it is shown to the
    witness while there is something new.
    """

    folder: Path = Path("data/evidence")
    origin: Annotated[str, Field(pattern=r"^[!-*,-~]{1,128}$")] | None = None
    seal: str | None = None
    every: Duration = timedelta(minutes=1)


class AuditSettings(_Frozen):
    """The audit by schedule (定期审计): how often, where its sealed reports are, how many stay."""

    every: Duration = timedelta(days=1)
    folder: Path = Path("data/audits")
    keep: Annotated[int, Field(ge=1, le=10_000)] = 90


class KafkaSettings(_Frozen):
    """An Apache Kafka cluster: where it is, how we prove who we are, how durable topics are.

    ``user`` and ``password``: SASL/SCRAM. ``ca``: PEM of whom we trust for TLS; ``certificate``
    and ``key``: our own for mutual TLS. Without TLS only loopback is talked to, unless
    ``insecure_plaintext`` says otherwise. ``retention`` by kind of topic; what is not named is
    kept for ever.
    """

    bootstrap: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^\s/@:]+:\d{1,5}$")], ...], Field(min_length=1)
    ]
    user: str | None = None
    password: Reference | None = None
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256"] = "SCRAM-SHA-512"
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure_plaintext: bool = False
    replication: Annotated[int, Field(ge=1, le=32767)] = 3
    min_insync: Annotated[int, Field(ge=1)] = 2
    retention: Mapping[Literal["raw", "sealed", "quarantine", "receipts"], Duration] = Field(
        default_factory=dict
    )
    session_seconds: Annotated[float, Field(ge=6, le=300)] = 6
    transaction_seconds: Annotated[float, Field(ge=1, le=900)] = 15
    request_seconds: Annotated[float, Field(ge=1, le=300)] = 30


class LogSettings(_Frozen):
    """The log driver (D4), its address, and the partitions (分区) of resources.

    ``partitions`` by resource; ``default`` for those that are not named.
    """

    driver: Literal["embedded", "kafka"] = "embedded"
    path: Path = Path("data/log.db")
    kafka: KafkaSettings | None = None
    partitions: Mapping[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.driver == "kafka" and self.kafka is None:
            raise _wrong(
                "driver: kafka 需要 log.kafka.bootstrap", "driver kafka needs log.kafka.bootstrap"
            )
        return self

    def partitions_of(self, resource: str) -> int:
        """Return how many partitions a resource has."""
        return self.partitions.get(resource, self.partitions.get("default", 1))


class RegistrySettings(_Outgoing):
    """The schema registry that ``exchange publish`` asks, and what may be published.

    ``readable`` names resources that are published although they are not shared unconditionally
    or hold personal data: whoever can read the topic reads them.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s?#]*)?$")]
    user: str | None = None
    password: Reference | None = None
    ca: Path | None = None
    insecure_http: bool = False
    total_seconds: Seconds = 30
    connect_seconds: Seconds = 5
    read_seconds: Seconds = 10
    readable: tuple[Identifier, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise _wrong("user 与 password 须同时填写", "user and password come together")
        return self


class TsaSettings(_Outgoing):
    """A time-stamping authority (时间戳服务机构) for seals, and how long we go without it."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s#]*)?$")]
    trust: tuple[Path, ...]
    patience: Duration = timedelta(hours=1)
    ca: Path | None = None
    insecure_http: bool = False
    total_seconds: Seconds = 10
    connect_seconds: Seconds = 3
    read_seconds: Seconds = 5


class MetricsSettings(_Frozen):
    """Where each worker serves ``/metrics``, ``/healthz`` and ``/readyz``.

    A worker adds the number at the end of its name to ``port``. One whose main loop has not
    turned for ``stall`` counts as dead.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 9464
    stall: Duration = timedelta(minutes=10)


class Settings(_Frozen):
    """Everything of one node."""

    node: NodeIdentity
    catalog: Path = Path("catalog.yaml")
    schemas: Path = Path("schemas")
    state: Path = Path("data")
    log: LogSettings = LogSettings()
    store: str = "sqlite:///data/store.db"
    sources: Mapping[Identifier, SourceSettings] = Field(default_factory=dict)
    working_days: Path | None = None
    pull: PullSettings = PullSettings()
    seals: Mapping[str, SealSettings] = Field(default_factory=dict)
    tsa: TsaSettings | None = None
    delegations: tuple[DelegationSettings, ...] = ()
    trust: tuple[Path, ...] = ()
    upstream: UpstreamSettings | None = None
    evidence: EvidenceSettings = EvidenceSettings()
    audit: AuditSettings | None = None
    receiver: ReceiverSettings | None = None
    registry: RegistrySettings | None = None
    metrics: MetricsSettings | None = None
    notify: NotifySettings | None = None
    production: bool = False
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _has_working_days(self) -> Self:
        if self.working_days is None:
            for name, source in self.sources.items():
                if source.days == "working":
                    raise _wrong(
                        f"sources.{name} 的 days: working 需要 working_days",
                        f"sources.{name}: days: working needs working_days",
                    )
        return self

    @property
    def folder(self) -> Path:
        """The folder of the settings file."""
        return self._folder

    def resolve(self, path: Path) -> Path:
        """Return ``path`` as seen from the settings file's folder."""
        return path if path.is_absolute() else self.folder / path

    def url(self, url: str, environ: Mapping[str, str]) -> str:
        """Return a store address: a reference is read, a relative SQLite path made absolute."""
        if url.startswith(REFERENCES):
            url = self.secret(url, environ)
        head = "sqlite:///"
        if url.startswith(head) and not url.startswith(head + "/"):
            return head + str((self.folder / url.removeprefix(head)).absolute())
        return url

    def secret(self, reference: str, environ: Mapping[str, str]) -> str:
        """Read a secret by its reference; raises Misconfigured naming the reference only."""
        return read_secret(reference, self.folder, environ)
