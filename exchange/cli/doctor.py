"""``exchange doctor``: everything that a run needs, looked at before it is needed."""

from __future__ import annotations

import shutil
import sqlite3
import ssl
import stat
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import typer

from exchange.cli.attention import failure_of, of_resource, of_seals
from exchange.cli.diagnostics import Diagnostic, Grade, probe
from exchange.cli.doctor_outside import examine_evidence, examine_upstream, reach_tsa
from exchange.cli.invocation import Invocation
from exchange.cli.layout import pad
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import shown_path
from exchange.errors import (
    Denied,
    ExchangeError,
    Integrity,
    Misconfigured,
    Rejected,
    Transient,
)
from exchange.text import BEIJING, Text, beijing, counted, day

if TYPE_CHECKING:
    from exchange.catalog.model import Resource
    from exchange.connect import Source
    from exchange.log import Log
    from exchange.node.node import Node
    from exchange.settings import SealSettings, Settings

_TITLE_WIDTH = 12
"""Columns of a check's name; a longer one moves its text to the right."""
SOURCE_SECONDS = 10.0
EXPIRES_SOON = timedelta(days=60)
CLOCK_SKEW = timedelta(minutes=1)
SPACE_FAIL, SPACE_WARN = 1 << 30, 10 << 30
"""Bytes free below which a run is at risk, or soon will be."""
_WORST = (Integrity, Denied, Misconfigured, Transient, Rejected)
_GIB = 1 << 30


app = alone()


@app.command(
    help=bilingual("检查本机、配置、印章、日志、存储、上级平台", "check everything a run needs")
)
def doctor(context: typer.Context, *, as_json: Json = False) -> int:
    """Check everything, a line for each check; the exit code is that of the worst failure."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    diagnostics = []
    for diagnostic in _examine(call):
        diagnostics.append(diagnostic)
        if not output.as_json:
            mark = {Grade.OK: "✓", Grade.WARN: "!", Grade.FAIL: "✗"}[diagnostic.grade]
            name = pad(output.text(diagnostic.title), _TITLE_WIDTH)
            output.answer(None, f"{mark} {name}  {output.text(diagnostic.text)}")
            if diagnostic.hint.en:
                output.answer(None, f"    → {output.text(diagnostic.hint)}")
    failed = {diagnostic.code for diagnostic in diagnostics if diagnostic.grade is Grade.FAIL}
    if output.as_json:
        output.answer(
            {"ok": not failed, "checks": [diagnostic.as_dict() for diagnostic in diagnostics]}
        )
    return next((kind.exit_code for kind in _WORST if kind.exit_code in failed), 0)


def _examine(call: Invocation) -> Iterator[Diagnostic]:
    from exchange.settings import load

    yield probe("python", _python)
    yield probe("crypto", _crypto)
    yield probe("hashing", _hashing)
    try:
        path = call.settings_path()
        settings = load(path)
    except ExchangeError as error:
        yield Diagnostic("settings", Grade.FAIL, error.what, error.hint, error.exit_code)
        return
    from exchange.node.node import Node

    yield Diagnostic("settings", Grade.OK, Text(shown_path(path), shown_path(path)))
    with Node(settings, environ=call.environ) as node:
        catalog_checks = list(_catalog(node))
        yield from catalog_checks
        readable = catalog_checks[0].grade is Grade.OK
        for name, seal in settings.seals.items():
            yield probe(f"seal {name}", partial(_seal, node, name, seal))
        yield probe("register", partial(_register, node))
        yield probe("trust", partial(_trust, node))
        log: Diagnostic | None = None
        if settings.log.driver == "kafka":
            from exchange.cli.cluster import examine

            yield from examine(node)
        else:
            log = probe("log", partial(_log, node))
            yield log
        if log is None or log.grade is not Grade.FAIL:
            yield probe("clock", partial(_clock, node))
        if settings.working_days is not None:
            yield probe("working days", partial(_working_days, node))
        yield probe("store", partial(_store, node))
        yield probe("disk", partial(_disk, settings))
        yield probe("file modes", partial(_file_modes, settings))
        for name in settings.sources:
            yield probe(f"source {name}", partial(_source, node, name, compared=readable))
        yield from _seals_held(node)
        yield from _resources(node)
        yield from examine_upstream(node)
        if settings.tsa is not None:
            yield probe("tsa", partial(reach_tsa, settings, settings.tsa))
        yield probe("evidence", partial(examine_evidence, node))


def _python() -> Text:
    text = f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}"
    return Text(text, text)


def _crypto() -> Text:
    from exchange.seal.crypto.libcrypto import load

    load()
    version = ssl.OPENSSL_VERSION
    return Text(f"{version}，SM2 与 SM3 可用", f"{version}, with SM2 and SM3")


def _hashing() -> Text | Diagnostic:
    from exchange.seal.crypto.hash_kernel import LIBRARY, chosen

    choice = chosen()
    if not choice.defect:
        return choice.text
    hint = Text(
        f"结果正确但较慢；请重新安装，或删除 {LIBRARY}",
        f"the results are right, and slower; install again, or delete {LIBRARY}",
    )
    return Diagnostic("hashing", Grade.WARN, choice.text, hint)


def _catalog(node: Node) -> Iterator[Diagnostic]:
    from exchange.catalog.plan import plan, read_applied

    settings = node.settings

    def load() -> Text:
        catalog = node.catalog
        count = len(catalog.resources)
        return Text(
            f"版本 {catalog.version}，{count} 个资源",
            f"version {catalog.version}, {counted(count, 'resource')}",
        )

    def pending() -> Text | Diagnostic:
        decided = plan(read_applied(settings.resolve(settings.state)), node.catalog)
        if decided.empty:
            return Text("已生效", "applied")
        count = len(decided.changes)
        text = Text(f"{count} 处变更待生效", f"{count} changes are pending")
        hint = Text(
            "exchange catalog plan，再 exchange catalog apply",
            "`exchange catalog plan`, then `apply`",
        )
        return Diagnostic("catalog plan", Grade.WARN, text, hint)

    catalog_probe = probe("catalog", load)
    yield catalog_probe
    if catalog_probe.grade is Grade.OK:
        yield probe("catalog plan", pending)


def _seal(node: Node, name: str, seal: SealSettings) -> Diagnostic:
    from exchange.seal.eseal.structures import read_seal
    from exchange.seal.pki.x509 import read_certificate

    sealer = node.seals.open(seal)
    info = read_seal(sealer.eseal).info
    certificate = read_certificate(sealer.signer.certificate)
    ends = min(info.valid_until, certificate.not_after)
    begins = max(info.valid_from, certificate.not_before)
    validity = judge_validity(f"seal {name}", begins, ends, node.clock())
    if validity.grade is Grade.OK and sealer.signer.software and node.settings.production:
        from exchange.seal.pki.signers import SOFTWARE_KEY_WARNING

        return Diagnostic(validity.name, Grade.WARN, SOFTWARE_KEY_WARNING)
    return validity


def _register(node: Node) -> Text | Diagnostic:
    """Name the seals that the register does not know: in production it should know all."""
    from exchange.node.seal_administration import SealAdministration

    rows = SealAdministration(node, "doctor").rows()
    unknown = ", ".join(row.name for row in rows if not row.state)
    if not unknown:
        return Text(f"{len(rows)} 枚印章已登记", f"{len(rows)} seals are registered")
    text = Text(f"未登记：{unknown}", f"not registered: {unknown}")
    if not node.settings.production:
        return text
    hint = Text(
        "exchange seal file 名称 --number 备案号",
        "`exchange seal file NAME --number FILING` takes it into the register",
    )
    return Diagnostic("register", Grade.WARN, text, hint)


def judge_validity(name: str, begins: datetime, ends: datetime, now: datetime) -> Diagnostic:
    """Judge a period of validity."""
    until = Text(f"有效期至 {day(ends)}", f"valid until {day(ends)}")
    renew = Text("请向制章机构换发", "have the seal maker renew it")
    if now > ends:
        text = Text(f"已于 {day(ends)} 失效", f"expired on {day(ends)}")
        return Diagnostic(name, Grade.FAIL, text, renew, Misconfigured.exit_code)
    if now < begins:
        text = Text(f"{day(begins)} 起才有效", f"valid only from {day(begins)}")
        hint = Text("请检查本机时钟", "check the clock of this machine")
        return Diagnostic(name, Grade.FAIL, text, hint, Misconfigured.exit_code)
    if ends - now < EXPIRES_SOON:
        return Diagnostic(name, Grade.WARN, until, renew)
    return Diagnostic(name, Grade.OK, until)


def _trust(node: Node) -> Text | Diagnostic:
    upstream = node.settings.upstream
    own = len(node.trust(node.settings.trust).anchors)
    province = len(node.trust(upstream.trust).anchors) if upstream else 0
    text = Text(
        f"本级信任根 {own} 个，上级 {province} 个",
        f"{counted(own, 'root')} of ours, {province} of the province",
    )
    if own and (province or upstream is None):
        return text
    hint = Text(
        "在 trust 与 upstream.trust 中登记根证书",
        "name root certificates in trust and upstream.trust",
    )
    return Diagnostic("trust", Grade.WARN, text, hint)


def _log(node: Node) -> Text:
    """Write a small note: opening alone does not show that the disk takes anything."""
    from exchange.log import CURSORS, Topic
    from exchange.pipeline.messages import state_message

    node.log.ensure([Topic(CURSORS, compacted=True)])
    with node.log.transaction("doctor") as tx:
        tx.append(state_message("doctor", {"at": node.clock().isoformat()}))
    path = shown_path(node.settings.resolve(node.settings.log.path))
    return Text(f"{path} 可写", f"{path} takes writes")


def _clock(node: Node) -> Text | Diagnostic:
    """Compare with the newest time in the log, which never goes back."""
    from exchange.log import CURSORS

    # Of a cluster as it stands: the doctor makes no topic.
    log: Log = node.cluster if node.settings.log.driver == "kafka" else node.log
    has_cursors = any(topic.name == CURSORS for topic in log.topics())
    _, end = log.bounds(CURSORS, 0) if has_cursors else (0, 0)
    entries = log.read(CURSORS, 0, end - 1, max_entries=1) if end else []
    now = node.clock()
    for entry in entries:
        ahead = timedelta(milliseconds=entry.time) - timedelta(seconds=now.timestamp())
        if ahead > CLOCK_SKEW:
            return Diagnostic(
                "clock",
                Grade.WARN,
                Text(
                    f"日志中的时间比本机时钟快 {ahead}：时钟被调回过",
                    f"the log is {ahead} ahead of this clock: it was moved back",
                ),
                Text("请用 NTP 校准时钟", "set the clock by NTP"),
            )
    return Text(f"北京时间 {beijing(now)}", f"{beijing(now)}, Beijing time")


def _store(node: Node) -> Text:
    node.store.deliveries.counts()
    number, _ = node.store.audit.head()
    return Text(
        f"结构已是最新，审计 {number} 条",
        f"schema up to date, audit trail: {number}",
    )


def _disk(settings: Settings) -> Diagnostic:
    path = settings.resolve(settings.log.path).parent
    while not path.exists():
        path = path.parent
    return judge_space(shutil.disk_usage(path).free)


def _file_modes(settings: Settings) -> Text | Diagnostic:
    """Name what others may read or write of all that the node keeps."""
    kept = {settings.state, settings.evidence.folder, settings.log.path}
    places = {path for path in map(settings.resolve, kept) if path.exists()}
    tops = sorted(path for path in places if places.isdisjoint(path.parents))
    open_paths = [
        str(path)
        for top in tops
        for path in (top, *top.rglob("*"))
        if not path.is_symlink() and path.lstat().st_mode & stat.S_IRWXO
    ]
    if not open_paths:
        return Text("数据只有本用户可读", "only this user reads the data")
    text = Text(
        f"{len(open_paths)} 个文件或目录其他用户可以访问，如 {open_paths[0]}",
        f"{len(open_paths)} files or folders are open to other users, such as {open_paths[0]}",
    )
    command = f"chmod -R o= {' '.join(map(str, tops))}"
    return Diagnostic("file modes", Grade.WARN, text, Text(f"请运行 {command}", f"run `{command}`"))


def judge_space(free: int) -> Diagnostic:
    """Judge the bytes free for the log."""
    text = Text(f"剩余 {free / _GIB:.1f} GiB", f"{free / _GIB:.1f} GiB free")
    hint = Text("请清理或扩容日志所在磁盘", "free or add space where the log is kept")
    if free < SPACE_FAIL:
        return Diagnostic("disk", Grade.FAIL, text, hint, Transient.exit_code)
    return (
        Diagnostic("disk", Grade.WARN, text, hint)
        if free < SPACE_WARN
        else Diagnostic("disk", Grade.OK, text)
    )


def _source(node: Node, name: str, *, compared: bool) -> Text | Diagnostic:
    """Try the source, and whether what it brings could be sealed; name what is amiss.

    It is not ``compared`` with a catalog that cannot be read: that check names the mistakes.
    """
    if not compared:
        node.source(name).check(timeout=SOURCE_SECONDS)
        text = Text(
            "可以读取；目录不能读，无法比对", "can be read; there is no catalog to compare it with"
        )
        code = Misconfigured.exit_code
        return Diagnostic(f"source {name}", Grade.FAIL, text, code=code)
    resource = node.catalog.resource(node.source_settings(name).resource)
    node.seals.of(resource)
    source = node.source(name)
    text = source.check(timeout=SOURCE_SECONDS)
    concerns = source_concerns(source, resource, SOURCE_SECONDS)
    if _has_begun(node) and (failure := failure_of(node, name)) is not None:
        concerns.insert(0, Text(f"上次拉取：{failure.zh}", f"the last pull: {failure.en}"))
    if not concerns:
        return text
    concern_list = Text("；".join(c.zh for c in concerns), "; ".join(c.en for c in concerns))
    hint = Text(
        f"修改来源或目录，然后 exchange run --once {name}",
        f"mend the source or the catalog, then `exchange run --once {name}`",
    )
    return Diagnostic(f"source {name}", Grade.WARN, concern_list, hint)


def _working_days(node: Node) -> Text | Diagnostic:
    """Say whether the table of working days reaches far enough."""
    calendar, today = node.working_days, node.clock().astimezone(BEIJING).date()
    assert calendar is not None  # noqa: S101 - asked for with a table only
    calendar.has(today)
    soon = today + EXPIRES_SOON
    try:
        calendar.has(soon)
    except Misconfigured as error:
        return Diagnostic("working days", Grade.WARN, error.what, error.hint)
    return Text(f"{soon.year} 年的工作日已知", f"the working days of {soon.year} are known")


def _has_begun(node: Node) -> bool:
    """Tell whether the log has the node's topics: the doctor makes none."""
    from exchange.node.topics import common_topics

    try:
        log: Log = node.cluster if node.settings.log.driver == "kafka" else node.log
        known = {topic.name for topic in log.topics()}
    except ExchangeError:
        return False  # its own check tells
    return all(topic.name in known for topic in common_topics(node.settings))


def _resources(node: Node) -> Iterator[Diagnostic]:
    """Name the resources that wait for a person, and the command for it."""
    from exchange.run.status import StatusReader

    if not _has_begun(node):
        return
    try:
        statuses = StatusReader(node)()
        waiting = [item for status in statuses for item in of_resource(node, status)]
    except ExchangeError:
        return  # log or store: their own checks tell
    for item in waiting:
        hint = Text(item.do, f"`{item.do}`")
        yield Diagnostic(f"resource {item.subject}", Grade.WARN, item.what, hint)


def _seals_held(node: Node) -> Iterator[Diagnostic]:
    """Name the seals that departments use and that may not seal, and what ends it."""
    try:
        held = list(of_seals(node)) if _has_begun(node) else []
    except ExchangeError:
        return  # catalog or log: their own checks tell
    for item in held:
        yield Diagnostic(item.subject, Grade.WARN, item.what, Text(item.do, f"`{item.do}`"))


def source_concerns(source: Source, resource: Resource, seconds: float) -> list[Text]:
    """List what is wrong with a source that can be read: odd rows, columns it lacks."""
    from exchange.validate.source_frame import absent_columns, missing_columns

    concerns = list(source.concerns(timeout=seconds))
    columns = source.columns(timeout=seconds)
    if columns is not None and (missing := missing_columns(resource, columns)):
        names = ", ".join(missing)
        concerns.append(
            Text(
                f"来源缺少目录登记的必填列，拉取会被拒绝：{names}",
                f"columns of required fields that the source lacks, a pull is refused: {names}",
            )
        )
    if columns is not None and (absent := absent_columns(resource, columns)):
        names = ", ".join(absent)
        concerns.append(
            Text(
                f"来源缺少目录登记的列，相应数据项为空：{names}",
                f"columns that the catalog names and the source lacks, "
                f"their fields are empty: {names}",
            )
        )
    return concerns
