"""Settings of a node: ``exchange.yaml`` as small frozen values that refuse nonsense.

Secrets stand in the file by reference only (``env:NAME`` or ``file:path``) and are read at the
moment of use; they are never part of a settings value, so no repr or log can show them.
Relative paths count from the folder of the settings file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from exchange.catalog.problems import CatalogErrors, Problem, Problems, suggestion
from exchange.catalog.tree import Items, Node, Pairs, parse
from exchange.errors import Misconfigured
from exchange.text import Text

FILE_NAME = "exchange.yaml"
_MAX_SECRET_BYTES = 64 * 1024
_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> object:
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A time span such as ``30s``, ``15m``, ``2h``, ``1d``."""
Reference = Annotated[str, Field(pattern=r"^(env|file):.+")]
"""Where a secret is kept: ``env:NAME`` or ``file:path``."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeIdentity(_Frozen):
    """Who this node is; ``code`` is its administrative division (行政区划代码)."""

    code: Annotated[str, Field(pattern=r"^\d{6}(\d{3}|\d{6})?$")]
    name: str


class SourceSettings(_Frozen):
    """One source (数据源): a connector, the resource it feeds and when it runs.

    ``every`` is a duration, ``cron`` a five-field expression; neither means: with every
    ``run --once`` only.
    ``with`` holds the connector's own settings.
    """

    resource: Name
    connector: str
    every: Duration | None = None
    cron: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict, alias="with")


class SealSettings(_Frozen):
    """A department's seal (电子印章): the folder of its key, certificate, seal and chain.

    ``key`` and ``password`` count from that folder.
    """

    folder: Path
    key: str = "file:key.pem"
    password: Reference | None = None


class UpstreamSettings(_Frozen):
    """The province's interface (上级平台) and whom we trust for its receipts."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s?#]*)?$")]
    profile: str = "national"
    rid: str
    sid: str
    path: str = "batch"
    secret: Reference
    connect_seconds: Annotated[float, Field(gt=0, le=300)] = 5
    read_seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    total_seconds: Annotated[float, Field(gt=0, le=7200)] = 300
    ca: Path | None = None
    insecure_http: bool = False
    trust: tuple[Path, ...]
    backlog: Annotated[int, Field(ge=1)] = 10_000
    witness: str | None = "witness"


class GatewayClient(_Frozen):
    """One caller of the gateway: its identity (rid) and where its secret is kept."""

    rid: str
    secret: Reference


class GatewaySection(_Frozen):
    """The receiving side (the province, or its simulation)."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8470
    folder: Path
    store: str
    sid: str
    path: str = "batch"
    clients: tuple[GatewayClient, ...]
    seal: SealSettings
    trust: tuple[Path, ...]
    clock_skew: Duration = timedelta(minutes=10)
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
            raise ValueError("driver kafka needs log.kafka.bootstrap")
        return self

    def partitions_of(self, resource: str) -> int:
        """Return how many partitions a resource has."""
        return self.partitions.get(resource, self.partitions.get("default", 1))


class RegistrySettings(_Frozen):
    """The schema registry that ``exchange publish`` asks, and what may be published.

    ``readable`` names resources that are published although they are not shared unconditionally
    or hold personal data: whoever can read the topic reads them.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s?#]*)?$")]
    user: str | None = None
    password: Reference | None = None
    ca: Path | None = None
    insecure_http: bool = False
    connect_seconds: Annotated[float, Field(gt=0, le=300)] = 5
    read_seconds: Annotated[float, Field(gt=0, le=300)] = 10
    total_seconds: Annotated[float, Field(gt=0, le=300)] = 30
    readable: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password come together")
        if max(self.connect_seconds, self.read_seconds) > self.total_seconds:
            raise ValueError("total_seconds is at least connect_seconds and read_seconds")
        return self


class TsaSettings(_Frozen):
    """A time-stamping authority (时间戳服务机构) for seals, and how long we go without it."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s#]*)?$")]
    trust: tuple[Path, ...]
    patience: Duration = timedelta(hours=1)
    ca: Path | None = None
    insecure_http: bool = False
    connect_seconds: Annotated[float, Field(gt=0, le=60)] = 3
    read_seconds: Annotated[float, Field(gt=0, le=60)] = 5
    total_seconds: Annotated[float, Field(gt=0, le=120)] = 10

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if max(self.connect_seconds, self.read_seconds) > self.total_seconds:
            raise ValueError("total_seconds is at least connect_seconds and read_seconds")
        return self


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
    sources: Mapping[Name, SourceSettings] = Field(default_factory=dict)
    seals: Mapping[str, SealSettings] = Field(default_factory=dict)
    tsa: TsaSettings | None = None
    trust: tuple[Path, ...] = ()
    upstream: UpstreamSettings | None = None
    evidence: EvidenceSettings = EvidenceSettings()
    gateway: GatewaySection | None = None
    registry: RegistrySettings | None = None
    metrics: MetricsSettings | None = None
    production: bool = False
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """The folder of the settings file."""
        return self._folder

    def resolve(self, path: Path) -> Path:
        """Return ``path`` as seen from the settings file's folder."""
        return path if path.is_absolute() else self.folder / path

    def url(self, url: str) -> str:
        """Return a store address: a reference is read, a relative SQLite path made absolute."""
        if url.startswith(("env:", "file:")):
            url = self.secret(url)
        head = "sqlite:///"
        if url.startswith(head) and not url.startswith(head + "/"):
            return head + str((self.folder / url.removeprefix(head)).absolute())
        return url

    def secret(self, reference: str, environ: Mapping[str, str] = os.environ) -> str:
        """Read a secret by its reference; raises Misconfigured naming the reference only."""
        return read_secret(reference, self.folder, environ)


def read_secret(reference: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Read ``env:NAME`` or ``file:path`` (one trailing line end is dropped)."""
    scheme, _, rest = reference.partition(":")
    if scheme == "env" and rest in environ:
        return environ[rest]
    if scheme == "file":
        path = folder / rest
        try:
            with path.open("rb") as stream:
                data = stream.read(_MAX_SECRET_BYTES + 1)
            if len(data) <= _MAX_SECRET_BYTES:
                return data.decode().removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(reference) from error
    raise _unreadable(reference)


def _unreadable(reference: str) -> Misconfigured:
    return Misconfigured(
        Text(f"读不到密钥引用 {reference}", f"cannot read the secret at {reference}"),
        hint=Text(
            "请设置该环境变量，或检查该文件是否存在、可读、不超过 64 KiB",
            "set that environment variable, or check that the file exists, is readable and "
            "is at most 64 KiB",
        ),
    )


def find(start: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Find ``exchange.yaml``: ``$EXCHANGE_CONFIG``, or in ``start`` or a folder above it."""
    if given := environ.get("EXCHANGE_CONFIG"):
        return Path(given)
    for folder in (start, *start.resolve().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise Misconfigured(
        Text(f"在 {start} 及其上级目录中找不到 {FILE_NAME}", f"no {FILE_NAME} here or above"),
        hint=Text(
            "运行 exchange init 新建节点，或用 --config 指定配置文件",
            "run `exchange init` to make a node, or name the file with --config",
        ),
    )


def load(path: Path) -> Settings:
    """Load and check ``exchange.yaml``; raises CatalogErrors with file, line and suggestion."""
    problems = Problems()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(
            Text(f"读不到配置文件 {path}", f"cannot read the settings file {path}"),
            hint=Text("请检查路径与 UTF-8 编码", "check the path, and that it is UTF-8"),
        ) from error
    tree = parse(text, str(path), problems)
    problems.check()
    plain = _plain(tree, problems)
    problems.check()
    try:
        settings = Settings.model_validate(plain)
    except ValidationError as error:
        raise CatalogErrors(
            _problem(str(path), tree, item, Settings) for item in error.errors()
        ) from error
    settings._folder = path.parent  # noqa: SLF001 - known only here, and part of no file
    return settings


def _plain(node: Node | None, problems: Problems) -> Any:
    """Turn the tree into plain values: every scalar stays text, an empty one is None."""
    if isinstance(node, Items):
        return [_plain(item, problems) for item in node.nodes]
    if isinstance(node, Pairs):
        plain: dict[str, Any] = {}
        for key, value in node.pairs:
            if key.text in plain:
                what = Text(f"重复的键“{key.text}”", f"duplicate key '{key.text}'")
                problems.add(key, what, Text("请删除其中一个", "remove one of them"))
            plain[key.text] = _plain(value, problems)
        return plain
    return node.text or None if node is not None else None


def _line(node: Node | None, where: Sequence[str | int]) -> int:
    """Return the line of the deepest part of ``where`` that stands in the file."""
    line = node.line if node is not None else 1
    for part in where:
        if isinstance(node, Pairs):
            found = [(key, value) for key, value in node.pairs if key.text == part]
            if not found:
                break
            line, node = found[0][0].line, found[0][1]
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
            line = node.line
        else:
            break
    return line


def _problem(
    file: str, tree: Node | None, item: Mapping[str, Any], model: type[BaseModel]
) -> Problem:
    where = list(item["loc"])
    name = ".".join(str(part) for part in where)
    hint = Text("请对照 docs/settings.md 修改", "see docs/settings.md")
    if item["type"] == "extra_forbidden":
        what = Text(f"未知的配置项 {name}", f"unknown setting {name}")
        hint = suggestion(str(where[-1]), _known_keys(model, where[:-1]))
    elif item["type"] == "missing":
        what = Text(f"缺少配置项 {name}", f"missing setting {name}")
    else:
        what = Text(f"配置项 {name} 不正确：{item['msg']}", f"setting {name}: {item['msg']}")
    return Problem(file, _line(tree, where), what, hint)


def _known_keys(model: Any, where: Sequence[str | int]) -> list[str]:
    """List the keys of the model at ``where``."""
    for part in where:
        fields = _fields(model)
        if fields:
            model = fields[str(part)].annotation if str(part) in fields else None
        else:  # a mapping or a tuple: ``part`` is a name or a place in it
            model = next((arg for arg in get_args(model) if _fields(arg)), None)
    return list(_fields(model))


def _fields(model: Any) -> dict[str, FieldInfo]:
    """Return the fields of a model, or of a model that may be left out, by key."""
    inner = get_args(model) if isinstance(model, UnionType) else (model,)
    for one in inner:
        if isinstance(one, type) and issubclass(one, BaseModel):
            return {field.alias or name: field for name, field in one.model_fields.items()}
    return {}
