"""Commands of the receiving side, the province's: serve, list, show."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, OptionalResource, bilingual, group
from exchange.errors import Misconfigured, Rejected
from exchange.text import Text, beijing, counted, with_beijing

if TYPE_CHECKING:
    from exchange.receiver.callers import Caller
    from exchange.receiver.options import ReceiverOptions
    from exchange.settings import ReceiverSettings, Settings
    from exchange.settings.sections import ReceiverClient
    from exchange.store.database import Store
    from exchange.store.receiver.batches import ReceivedBatchRow

app = group(
    "receiver", "接收端：省级一侧的接收、验证、答复回执", "the receiver, the province's side"
)


@app.command(
    help=bilingual("接收、验证、保存、答复回执", "receive, verify, keep and answer batches")
)
def serve(context: typer.Context) -> int:
    """Serve until SIGTERM or SIGINT."""
    from exchange.node.node import Node
    from exchange.receiver.serve import run_receiver

    call: Invocation = context.obj
    output = call.output()
    settings = call.settings()
    options = receiver_options(settings, call.environ)

    def announce(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    for rid in sorted(rid for rid, caller in options.callers.items() if caller.scope.empty):
        output.inform(
            f"调用方 {rid} 什么也不能报送：请填写 departments、resources、seals",
            f"caller {rid} may deliver nothing: name its departments, resources and seals",
        )
    with Node(settings, environ=call.environ) as node:
        output.inform("接收端已启动；Ctrl-C 停止", "the receiver runs; Ctrl-C stops it")
        run_receiver(
            options,
            sealer=node.seals.open(_section(settings).seal),
            clock=node.clock,
            entropy=node.entropy,
            announce=announce,
        )
    return 0


@app.command("list", help=bilingual("列出收到的批次", "list the batches that were received"))
def list_batches(
    context: typer.Context,
    resource: OptionalResource = None,
    *,
    department: Annotated[
        str | None, typer.Option(help=bilingual("部门的代码", "code of the department"))
    ] = None,
    sender: Annotated[
        str | None, typer.Option(help=bilingual("报送方的 rid", "rid of the sender"))
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> int:
    """List received batches, newest first."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with _store(call) as store:
        rows = store.received_batches.find(
            department=department, resource=resource, sender=sender, limit=limit
        )
    output.page(
        "batches",
        [_facts(row) for row in rows],
        (
            (
                _address(row),
                row.sender,
                f"{row.rows:,}",
                beijing(row.received_at),
                row.receipt_no,
            )
            for row in rows
        ),
        title=Text("收到的批次", "received batches"),
        heads=_HEADS,
        nothing=Text("还没有收到批次", "no batches were received yet"),
        limit=limit,
    )
    return 0


_HEADS = (
    Text("编号", "address"),
    Text("报送方", "sender"),
    Text("记录", "records"),
    Text("接收时间", "received"),
    Text("回执号", "receipt"),
)


@app.command(help=bilingual("查看一个批次及其回执", "show one batch and its receipt"))
def show(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="department/resource/batch")],
    *,
    as_json: Json = False,
) -> int:
    """Show a received batch with the receipt that was answered, and others of its number."""
    from exchange.evidence.report.facts import LABELS
    from exchange.receipt import read

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    department, _, rest = address.partition("/")
    resource, _, batch_no = rest.partition("/")
    with _store(call) as store:
        rows = store.received_batches.numbered(department, resource, batch_no)
    if not rows:
        raise Rejected(
            Text(f"没有收到批次 {address}", f"no batch {address} was received"),
            hint=Text(
                "编号写作 部门/资源/批次号，见 exchange receiver list",
                "an address is department/resource/batch, see `exchange receiver list`",
            ),
        )
    row = max(rows, key=lambda other: other.received_at)
    others = [other for other in rows if other is not row]
    settings = call.settings()
    file = settings.resolve(_section(settings).folder) / row.path
    lines = [
        f"{_address(row)}  {output.t(f'{row.rows:,} 条', counted(row.rows, 'record'))}",
        f"{output.t('接收时间', 'received')}  {beijing(row.received_at)}",
        f"{output.t('报送方', 'sender')}  {row.sender}",
        f"{output.t('声明摘要', 'statement')}  {row.statement}",
        f"{output.t('文件', 'file')}  {file}",
        *(
            f"{output.t('同号另一份', 'another of this number')}  {other.sender} v{other.version}"
            f"  {other.statement}  {other.path}"
            for other in others
        ),
        output.t("回执", "receipt"),
        *(
            f"  {output.text(LABELS.get(name, Text(name, name)))}  {with_beijing(str(value))}"
            for name, value in read(row.receipt).value().items()
        ),
    ]
    answer = _facts(row) | {"receipt": json.loads(row.receipt)}
    output.answer(answer | {"others": [_facts(other) for other in others]}, "\n".join(lines))
    return 0


@app.command(
    help=bilingual(
        "准许一份声明：批次号已用于另一份内容，或不接续上一批时，由人决定",
        "let a statement in whose number is in use, or that does not go on from its chain",
    )
)
def admit(
    context: typer.Context,
    statement: Annotated[
        str, typer.Argument(help=bilingual("声明摘要（十六进制）", "digest of the statement, hex"))
    ],
    *,
    reason: Annotated[str, typer.Option(help=bilingual("理由，记入审计", "why; audited"))],
    as_json: Json = False,
) -> int:
    """Let one statement in, the next time it comes; what was kept before stays."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    if not (re.fullmatch("[0-9a-f]{64}", statement) and reason.strip()):
        raise Rejected(
            Text("需要声明摘要和理由", "a statement's digest and a reason are needed"),
            hint=Text(
                "摘要见拒收应答与审计（64 位十六进制），或节点的 exchange cascade list --json",
                "the digest stands in the refusal and in the audit trail (64 hex digits), or at"
                " the node: `exchange cascade list --json`",
            ),
        )
    with _store(call) as store:
        store.received_batches.admit(statement, reason.strip(), actor())
    output.answer(
        {"statement": statement, "reason": reason},
        output.t("下次报送时接收", "it is taken when it comes the next time"),
    )
    output.inform(
        "节点对已退回的批次运行 exchange cascade retry；等待中的自动继续",
        "the node sends a refused one by `exchange cascade retry`; one that waits goes on",
    )
    return 0


def _address(row: ReceivedBatchRow) -> str:
    return f"{row.department}/{row.resource}/{row.batch_no}"


def _facts(row: ReceivedBatchRow) -> dict[str, Any]:
    return {
        "address": _address(row),
        "department": row.department,
        "sender": row.sender,
        "version": row.version,
        "resource": row.resource,
        "batch_no": row.batch_no,
        "rows": row.rows,
        "statement": row.statement,
        "file": row.path,
        "receipt_no": row.receipt_no,
        "received_at": row.received_at,
    }


@contextlib.contextmanager
def _store(call: Invocation) -> Iterator[Store]:
    """Open the receiver's store; its schema is brought up to date, as ``serve`` does."""
    from exchange.node.node import utc_now
    from exchange.receiver.serve import check_database
    from exchange.store.database import open_store

    settings = call.settings()
    section = _section(settings)
    address = settings.url(section.store, call.environ)
    check_database(address, settings.resolve(section.folder))  # looking makes none in its place
    with contextlib.closing(open_store(address, clock=utc_now, migrate=True)) as store:
        yield store


def _section(settings: Settings) -> ReceiverSettings:
    if settings.receiver is None:
        raise Misconfigured(
            Text("配置中没有 receiver 一节", "the settings have no section receiver:"),
            hint=Text(
                "用 --config province/exchange.yaml 指定省级一侧的配置",
                "name the province's settings: --config province/exchange.yaml",
            ),
        )
    return settings.receiver


def receiver_options(
    settings: Settings, environ: Mapping[str, str], *, port: int | None = None
) -> ReceiverOptions:
    """Resolve the section ``receiver``: read its secrets and certificates."""
    from exchange.receiver.options import ReceiverOptions, Tls

    section = _section(settings)
    tls = None
    if section.certificate is not None and section.key is not None:
        tls = Tls(settings.resolve(section.certificate), settings.resolve(section.key))
    return ReceiverOptions(
        folder=settings.resolve(section.folder),
        store=settings.url(section.store, environ),
        callers={c.rid: _caller(settings, section, c, environ) for c in section.clients},
        sid=section.sid,
        path=section.path,
        witness=section.witness,
        witness_name=section.witness_name,
        province=section.province,
        window=section.clock_skew,
        ahead=section.sealed_ahead,
        host=section.host,
        port=section.port if port is None else port,
        share_port=section.share_port,
        tls=tls,
    )


def _caller(
    settings: Settings,
    section: ReceiverSettings,
    client: ReceiverClient,
    environ: Mapping[str, str],
) -> Caller:
    """Resolve one caller: read its secret and its roots."""
    from exchange.node.seals import delegations, trust
    from exchange.receiver.callers import Caller, Names, Scope

    def names(values: Literal["any"] | tuple[str, ...]) -> Names:
        return values if values == "any" else frozenset(values)

    roots = section.trust if client.roots == "any" else client.roots
    return Caller(
        rid=client.rid,
        secret=settings.secret(client.secret, environ),
        trust=replace(trust(settings, roots), delegations=delegations(client.delegations)),
        scope=Scope(
            departments=names(client.departments),
            resources=names(client.resources),
            seals=names(client.seals),
            origins=names(client.origins),
        ),
        signs_body=client.sign_body,
    )
