"""Commands on the catalog: check, plan, apply, explain, draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.catalog_draft import HELP, draft
from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import Json, bilingual, group
from exchange.cli.output import Output, shown_path
from exchange.errors import Misconfigured
from exchange.text import counted

if TYPE_CHECKING:
    from exchange.catalog.plan import Plan
    from exchange.log.kafka import Drift

NAME = "catalog.yaml"

app = group("catalog", "政务数据目录", "the catalog")
app.command(help=HELP)(draft)


@app.command(help=bilingual("检查目录文件", "check the catalog files"))
def check(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help=NAME)] = None,
    *,
    as_json: Json = False,
) -> int:
    """Show every problem of a catalog with file and line."""
    from exchange.catalog.loader import FileErrors, load

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    path = file if file is not None else _path(call)
    try:
        catalog = load(path)
    except FileErrors as error:
        lines = "\n".join(problem.show(output.lang) for problem in error.problems)
        problems = [problem.as_dict() for problem in error.problems]
        output.answer({"ok": False, "problems": problems}, lines)
        output.inform(output.text(error.what))
        return error.exit_code
    fields = sum(len(resource.fields) for resource in catalog.resources.values())
    output.answer(
        {"ok": True, "problems": []},
        output.t(
            f"目录无误：版本 {catalog.version}，{len(catalog.resources)} 个资源，{fields} 个数据项",
            f"the catalog is sound: version {catalog.version}, "
            f"{counted(len(catalog.resources), 'resource')}, {counted(fields, 'field')}",
        ),
    )
    return 0


@app.command(help=bilingual("与已生效目录比较（有变更时退出码 2）", "compare with what is applied"))
def plan(context: typer.Context, *, as_json: Json = False) -> int:
    """Compare catalog and cluster with what is applied; 2 when changes are pending."""
    from exchange.catalog import plan as plans
    from exchange.cli.cluster import drift

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        applied = plans.read_applied(node.settings.resolve(node.settings.state))
        decided = plans.plan(applied, node.catalog)
        drifts = drift(node)
    output.answer(_facts(decided, drifts), _lines(output, decided, drifts))
    if decided.empty and not drifts:
        return 0
    if decided.needs_version:
        names = ", ".join(decided.needs_version)
        output.inform(f"须提高版本号：{names}", f"these need a new version: {names}")
    output.inform(
        output.t(
            "有破坏性变更：与使用方协商后运行 exchange catalog apply --allow-breaking",
            "breaking: agree with the consumers, then `exchange catalog apply --allow-breaking`",
        )
        if decided.breaking
        else output.t("用 exchange catalog apply 使其生效", "`exchange catalog apply` applies them")
    )
    return 2


@app.command(help=bilingual("使目录生效并生成 Avro 模式", "apply the catalog, write Avro schemas"))
def apply(
    context: typer.Context,
    *,
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help=bilingual("同意破坏性变更", "consent"))
    ] = False,
    as_json: Json = False,
) -> int:
    """Make the catalog the applied one, write its Avro schemas, make and mend topics.

    2 when the cluster has a topic that differs and cannot be altered.
    """
    from exchange.catalog import plan as plans
    from exchange.cli.cluster import drift, drift_text
    from exchange.node.topics import required_topics

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        settings = node.settings
        schemas = settings.resolve(settings.schemas)
        drifts = drift(node)
        applied = plans.apply(
            node.catalog,
            state_dir=settings.resolve(settings.state),
            schemas_dir=schemas,
            allow_breaking=allow_breaking,
        )
        remaining = node.cluster.repair(required_topics(node.settings)) if drifts else []
        mended = [item for item in drifts if item not in remaining]
        if not applied.empty or mended:
            changes = [f"{change.kind} {change.where}" for change in applied.changes]
            changes += [f"{item.topic} {item.setting} {item.expected}" for item in mended]
            consent = " --allow-breaking" if applied.breaking else ""
            subject = f"{node.catalog.version}{consent}"
            node.store.audit.append(actor(), "catalog.apply", subject, "; ".join(changes))
    output.answer(_facts(applied, mended), _lines(output, applied, mended))
    if not applied.empty:
        output.inform(
            f"已生效；Avro 模式在 {shown_path(schemas)}",
            f"applied; the schemas are in {shown_path(schemas)}",
        )
    for item in remaining:
        output.inform(f"! {item.topic}: {output.text(drift_text(item))}")
    return 2 if remaining else 0


@app.command(help=bilingual("说明一个资源或数据项的要求", "tell what a resource or field requires"))
def explain(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="resource | resource.field")],
    *,
    as_json: Json = False,
) -> int:
    """Explain what a resource or a field asks for."""
    from exchange.catalog.explain import explain as explain_subject
    from exchange.catalog.loader import load

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    settings = call.settings()
    answer = explain_subject(load(settings.resolve(settings.catalog)), subject)
    lines = [f"{answer.subject} {answer.title}", *(f"  {output.text(x)}" for x in answer.lines)]
    output.answer(answer.as_dict(), "\n".join(lines))
    return 0


def _path(call: Invocation) -> Path:
    """Find the node's catalog, or the one in this folder when there is no node."""
    from exchange.catalog.problems import FileErrors

    try:
        settings = call.settings()
    except Misconfigured as error:
        if isinstance(error, FileErrors) or not Path(NAME).is_file():
            raise
        return Path(NAME)
    return settings.resolve(settings.catalog)


def _facts(decided: Plan, drifts: Sequence[Drift]) -> dict[str, object]:
    """Return the changes for JSON; those of the cluster beside those of the catalog."""
    facts = decided.as_dict() | {"topics": [asdict(item) for item in drifts]}
    return facts | {"empty": decided.empty and not drifts}


def _lines(output: Output, decided: Plan, drifts: Sequence[Drift]) -> str:
    """List the changes, a breaking one marked."""
    from exchange.cli.cluster import drift_text

    if decided.empty and not drifts:
        return output.t("没有变更", "no changes")
    mark = output.t("破坏性", "BREAKING")
    lines = [
        f"{'! ' + mark if change.breaking else '+'} {change.where}: {output.text(change.text)}"
        for change in decided.changes
    ]
    lines += [f"~ {item.topic}: {output.text(drift_text(item))}" for item in drifts]
    return "\n".join(lines)
