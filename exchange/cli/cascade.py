"""Commands on deliveries: list, retry, export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cascade.delivery import State
from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import BatchNumber, Json, OptionalResource, bilingual, group
from exchange.durable import write_file
from exchange.errors import Misconfigured, Rejected
from exchange.foreign import os_reason
from exchange.text import Text, beijing, counted

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.store.node.deliveries import DeliveryRow

STATES: Mapping[State, Text] = {
    State.PENDING: Text("待投递", "pending"),
    State.SENDING: Text("投递中", "sending"),
    State.CHECKING: Text("验证回执", "checking"),
    State.WAITING: Text("等待重试", "waiting"),
    State.RECEIPTED: Text("已回执", "receipted"),
    State.REFUSED: Text("已退回", "refused"),
    State.HALTED: Text("已停止", "halted"),
    State.WITHDRAWN: Text("已撤回", "withdrawn"),
}
BY_PERSON = (State.REFUSED, State.HALTED)
"""States that end only when a person decides."""


app = group("cascade", "级联：向上级投递", "cascade: deliveries to the province")


@app.command("list", help=bilingual("列出批次及投递状态", "list batches and their state"))
def list_deliveries(
    context: typer.Context,
    resource: OptionalResource = None,
    *,
    state: Annotated[str | None, typer.Option(help="|".join(STATES))] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> int:
    """List batches and where they stand, newest first."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    if state is not None and state not in STATES:
        raise Misconfigured(
            Text(f"没有状态 {state}", f"there is no state {state}"),
            hint=Text(f"可用：{', '.join(STATES)}", f"one of: {', '.join(STATES)}"),
        )
    with call.open_node() as node:
        if resource is not None:
            node.catalog.resource(resource)
        states = None if state is None else [state]
        rows = node.store.deliveries.find(resource=resource, states=states, limit=limit)
    output.page(
        "deliveries",
        [_facts(row) for row in rows],
        (
            (
                row.resource,
                row.batch_no,
                f"{row.rows:,}",
                output.text(STATES[State(row.state)]),
                row.attempts,
                "" if row.updated_at is None else beijing(row.updated_at),
                row.receipt_no or f"{row.code} {output.text(Text.split(row.reason))}".strip(),
            )
            for row in rows
        ),
        title=Text("投递", "deliveries"),
        heads=_HEADS,
        nothing=Text("没有批次", "no batches"),
        limit=limit,
    )
    return 0


_HEADS = (
    Text("资源", "resource"),
    Text("批次号", "batch"),
    Text("记录", "records"),
    Text("状态", "state"),
    Text("次数", "attempts"),
    Text("时间", "at"),
    Text("回执号或原因", "receipt or reason"),
)


@app.command(
    help=bilingual("把退回或停止的批次重新投递", "deliver a refused or halted batch again")
)
def retry(
    context: typer.Context,
    resource: str,
    batch: Annotated[str | None, typer.Argument(help=bilingual("批次号", "batch number"))] = None,
    *,
    as_json: Json = False,
) -> int:
    """Put refused and halted batches back, to be sent again as they are."""
    from exchange.pipeline.deliver import retry as put_back

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        node.catalog.resource(resource)
        if batch is None:
            rows = node.store.deliveries.find(resource=resource, states=BY_PERSON, limit=100_000)
        else:
            rows = [_batch(node, resource, batch)]
        rows.sort(key=lambda row: row.batch_no)
        for row in rows:
            if row.state not in BY_PERSON:
                raise _not_stopped(row)
            _sealed_bytes(node, row)  # what cannot be read cannot be sent
        for row in rows:
            put_back(node.store, row, node.clock, actor())
    numbers = [row.batch_no for row in rows]
    output.answer(
        {"resource": resource, "batches": numbers},
        output.t(
            f"{len(numbers)} 个批次将重新投递",
            f"{counted(len(numbers), 'batch')} will be sent again",
        ),
    )
    if numbers:
        output.inform(
            "运行中的节点会自动投递；否则运行 exchange run --once --only cascade",
            "a running node sends them; else `exchange run --once --only cascade`",
        )
    return 0


@app.command(
    help=bilingual(
        "时钟曾超前：撤回封签时间在未来、尚未接收的批次，以现在的时间重新封签",
        "the clock was ahead: withdraw what was sealed in the future, seal it with the right time",
    )
)
def reseal(
    context: typer.Context,
    resource: str,
    *,
    reason: Annotated[str, typer.Option(help=bilingual("理由，记入审计", "why; audited"))],
    apply: Annotated[
        bool, typer.Option("--apply", help=bilingual("执行（否则只显示）", "do it, else show"))
    ] = False,
    as_json: Json = False,
) -> int:
    """Seal once more, with the time of now, what was sealed with a clock ahead."""
    from exchange.pipeline.reseal import find_future
    from exchange.pipeline.reseal import reseal as seal_again

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    if not reason.strip():
        raise Rejected(
            Text("改正须写明原因", "a correction has a reason"),
            hint=Text("用 --reason 写明", "say it with --reason"),
        )
    with call.open_node() as node:
        contract = node.catalog.resource(resource)
        futures = find_future(node.context, node.store, resource)
        now = beijing(node.clock())
        if apply and futures:
            futures = seal_again(
                node.context,
                node.store,
                contract,
                lambda: node.seals.ready(contract),
                by=actor(),
                reason=reason.strip(),
            )
    numbers = [number for future in futures for number in future.numbers]
    output.answer(
        {"resource": resource, "batches": numbers, "applied": apply},
        output.t(
            f"{len(numbers)} 个批次的封签时间在未来（现在是 {now}）",
            f"{len(numbers)} batches were sealed in the future (it is {now})",
        ),
    )
    if numbers and not apply:
        output.inform(
            "先确认本机时钟正确（exchange doctor），再加 --apply",
            "see that this clock is right (`exchange doctor`), then --apply",
        )
    return 0


@app.command(help=bilingual("导出封签批次及其回执为文件", "write batch and receipt files"))
def export(
    context: typer.Context,
    resource: str,
    batch: BatchNumber,
    *,
    to: Annotated[Path, typer.Option(help=bilingual("目录", "folder"))] = Path(),
    as_json: Json = False,
) -> int:
    """Write a sealed batch and its receipt as files that anyone can verify."""
    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        node.catalog.resource(resource)
        row = _batch(node, resource, batch)
        data = _sealed_bytes(node, row)
        receipt = node.store.receipts.get(resource, batch)
    stem = f"{resource}-{batch}"
    files = {to / f"{stem}.avro": data}
    if receipt is not None:
        files[to / f"{stem}.receipt.json"] = receipt.content
    try:
        for path, content in files.items():
            write_file(path, content)
    except OSError as error:
        raise Misconfigured(
            Text(
                f"无法写入 {to}：{os_reason(error).zh}", f"cannot write {to}: {os_reason(error).en}"
            ),
            hint=Text("检查目录、权限和磁盘空间", "check the folder, rights and free space"),
        ) from error
    names = [str(path) for path in files]
    answer = {"batch": names[0], "receipt": names[1] if receipt is not None else None}
    output.answer(answer, "\n".join(names))
    if receipt is None:
        output.inform("该批次还没有回执", "there is no receipt for this batch yet")
    command = f"exchange verify {' '.join(names)}"
    output.inform(f"验证：{command}", f"verify: {command}")
    return 0


def _batch(node: Node, resource: str, batch: str) -> DeliveryRow:
    row = node.store.deliveries.get(resource, batch)
    if row is None:
        raise Rejected(
            Text(f"没有批次 {resource}/{batch}", f"there is no batch {resource}/{batch}"),
            hint=Text(
                f"查看 exchange cascade list {resource}", f"see exchange cascade list {resource}"
            ),
        )
    return row


def _sealed_bytes(node: Node, row: DeliveryRow) -> bytes:
    """Read a sealed batch by its address in the log."""
    return node.log.read(row.topic, row.partition, row.offset, max_entries=1)[0].value


def _not_stopped(row: DeliveryRow) -> Rejected:
    state = STATES[State(row.state)]
    return Rejected(
        Text(
            f"批次 {row.batch_no} 的状态是{state.zh}，不需要重新投递",
            f"batch {row.batch_no} is {state.en}: there is nothing to send again",
        ),
        hint=Text(
            "只有已退回或已停止的批次可以重新投递；其他批次自动继续",
            "only a refused or halted batch is sent again by hand; others go on by themselves",
        ),
    )


def _facts(row: DeliveryRow) -> dict[str, Any]:
    return {
        "resource": row.resource,
        "batch_no": row.batch_no,
        "rows": row.rows,
        "state": row.state,
        "attempts": row.attempts,
        "due": row.due,
        "code": row.code,
        "reason": Text.split(row.reason).en,
        "receipt_no": row.receipt_no,
        "statement": row.statement,
        "root": row.root,
        "address": f"{row.topic}/{row.partition}/{row.offset}",
        "updated_at": row.updated_at,
    }
