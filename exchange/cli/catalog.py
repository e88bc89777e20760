"""Commands on the catalog: check, plan, apply, explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from exchange import settings as settings_room
from exchange.catalog import plan as plans
from exchange.catalog.explain import explain as explained
from exchange.catalog.loader import CatalogErrors, load
from exchange.cli.output import Talk
from exchange.errors import Misconfigured
from exchange.settings import Settings

if TYPE_CHECKING:
    from exchange.log.kafka import Drift

NAME = "catalog.yaml"


def check(talk: Talk, file: Path | None) -> int:
    """Show every problem of a catalog with file and line."""
    path = file if file is not None else _find()
    try:
        found = load(path)
    except CatalogErrors as error:
        listed = "\n".join(problem.show(talk.lang) for problem in error.problems)
        problems = [problem.as_dict() for problem in error.problems]
        talk.answer({"ok": False, "problems": problems}, listed)
        talk.say(talk.text(error.what))
        return error.exit_code
    fields = sum(len(resource.fields) for resource in found.resources.values())
    talk.answer(
        {"ok": True, "problems": []},
        talk.t(
            f"目录无误：版本 {found.version}，{len(found.resources)} 个资源，{fields} 个数据项",
            f"the catalog is sound: version {found.version}, {len(found.resources)} resources, "
            f"{fields} fields",
        ),
    )
    return 0


def plan(talk: Talk) -> int:
    """Compare catalog and cluster with what is applied; 2 when changes are pending."""
    from exchange.cli.cluster import drift
    from exchange.cli.node import open_node

    with open_node() as node:
        applied = plans.read_applied(node.settings.resolve(node.settings.state))
        decided = plans.plan(applied, node.catalog)
        drifts = drift(node)
    talk.answer(_told(decided, drifts), _listed(talk, decided, drifts))
    if decided.empty and not drifts:
        return 0
    if decided.needs_version:
        names = ", ".join(decided.needs_version)
        talk.say(talk.t(f"须提高版本号：{names}", f"these need a new version: {names}"))
    talk.say(
        talk.t(
            "有破坏性变更：与使用方协商后运行 exchange catalog apply --allow-breaking",
            "breaking: agree with the consumers, then `exchange catalog apply --allow-breaking`",
        )
        if decided.breaking
        else talk.t("用 exchange catalog apply 使其生效", "`exchange catalog apply` applies them")
    )
    return 2


def apply(talk: Talk, *, allow_breaking: bool) -> int:
    """Make the catalog the applied one, write its Avro schemas, make and mend topics.

    2 when the cluster has a topic that differs and cannot be altered.
    """
    from exchange.cli.actor import actor
    from exchange.cli.cluster import drift, told
    from exchange.cli.node import open_node

    with open_node() as node:
        settings = node.settings
        schemas = settings.resolve(settings.schemas)
        drifts = drift(node)
        done = plans.apply(
            node.catalog,
            state_dir=settings.resolve(settings.state),
            schemas_dir=schemas,
            allow_breaking=allow_breaking,
        )
        left = node.cluster.repair(node.topics()) if drifts else []
        mended = [one for one in drifts if one not in left]
        if not done.empty or mended:
            changes = [f"{change.kind} {change.where}" for change in done.changes]
            changes += [f"{one.topic} {one.setting} {one.expected}" for one in mended]
            consent = " --allow-breaking" if done.breaking else ""
            subject = f"{node.catalog.version}{consent}"
            node.store.audit.append(actor(), "catalog.apply", subject, "; ".join(changes))
    talk.answer(_told(done, mended), _listed(talk, done, mended))
    if not done.empty:
        talk.say(talk.t(f"已生效；Avro 模式在 {schemas}", f"applied; the schemas are in {schemas}"))
    for one in left:
        talk.say(f"! {one.topic}: {talk.text(told(one))}")
    return 2 if left else 0


def explain(talk: Talk, subject: str) -> int:
    """Say in words what a resource or a field asks for."""
    settings = _settings()
    found = explained(load(settings.resolve(settings.catalog)), subject)
    lines = [f"{found.subject} {found.title}", *(f"  {talk.text(line)}" for line in found.lines)]
    talk.answer(found.as_dict(), "\n".join(lines))
    return 0


def _settings() -> Settings:
    return settings_room.load(settings_room.find(Path.cwd()))


def _find() -> Path:
    """Find the node's catalog, or the one in this folder when there is no node."""
    try:
        settings = _settings()
    except Misconfigured as error:
        if isinstance(error, CatalogErrors) or not Path(NAME).is_file():
            raise
        return Path(NAME)
    return settings.resolve(settings.catalog)


def _told(decided: plans.Plan, drifts: Sequence[Drift]) -> dict[str, object]:
    """Return the changes for JSON; those of the cluster beside those of the catalog."""
    told = decided.as_dict() | {"topics": [asdict(one) for one in drifts]}
    return told | {"empty": decided.empty and not drifts}


def _listed(talk: Talk, decided: plans.Plan, drifts: Sequence[Drift]) -> str:
    """List the changes, a breaking one marked."""
    from exchange.cli.cluster import told

    if decided.empty and not drifts:
        return talk.t("没有变更", "no changes")
    mark = talk.t("破坏性", "BREAKING")
    lines = [
        f"{'! ' + mark if change.breaking else '+'} {change.where}: {talk.text(change.text)}"
        for change in decided.changes
    ]
    return "\n".join([*lines, *(f"~ {one.topic}: {talk.text(told(one))}" for one in drifts)])
