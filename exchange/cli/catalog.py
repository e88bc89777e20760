"""Commands on the catalog: check, plan, apply, explain."""

from __future__ import annotations

from pathlib import Path

from exchange import settings as settings_room
from exchange.catalog import plan as plans
from exchange.catalog.explain import explain as explained
from exchange.catalog.loader import CatalogErrors, load
from exchange.cli.talk import Talk
from exchange.errors import Misconfigured
from exchange.settings import Settings

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
    """Compare the catalog with what is applied; 2 when changes are pending."""
    settings = _settings()
    applied = plans.read_applied(settings.resolve(settings.state))
    decided = plans.plan(applied, load(settings.resolve(settings.catalog)))
    talk.answer(decided.as_dict(), _listed(talk, decided))
    if decided.empty:
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
    """Make the catalog the applied one and write its Avro schemas."""
    from exchange.cli.nodes import open_node
    from exchange.cli.person import actor

    with open_node() as node:
        settings = node.settings
        schemas = settings.resolve(settings.schemas)
        done = plans.apply(
            node.catalog,
            state_dir=settings.resolve(settings.state),
            schemas_dir=schemas,
            allow_breaking=allow_breaking,
        )
        if not done.empty:
            detail = "; ".join(f"{change.kind} {change.where}" for change in done.changes)
            consent = " --allow-breaking" if done.breaking else ""
            subject = f"{node.catalog.version}{consent}"
            node.store.audit.append(actor(), "catalog.apply", subject, detail)
    talk.answer(done.as_dict(), _listed(talk, done))
    if not done.empty:
        talk.say(talk.t(f"已生效；Avro 模式在 {schemas}", f"applied; the schemas are in {schemas}"))
    return 0


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


def _listed(talk: Talk, decided: plans.Plan) -> str:
    """List the changes, a breaking one marked."""
    if decided.empty:
        return talk.t("没有变更", "no changes")
    mark = talk.t("破坏性", "BREAKING")
    return "\n".join(
        f"{'! ' + mark if change.breaking else '+'} {change.where}: {talk.text(change.text)}"
        for change in decided.changes
    )
