"""Plan and apply: a catalog takes effect only through a judged list of changes.

The applied catalog is one file beside the node's data, written whole or not at all. The Avro
schema of a resource version is written once and never edited: batches of that version exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from exchange.catalog.avro import avro_schema, schema_file, schema_text
from exchange.catalog.canonical import canonical, catalog_digest
from exchange.catalog.changes import Change, changes
from exchange.catalog.model import Catalog, Resource
from exchange.durable import write_file
from exchange.errors import Integrity, Rejected, Transient
from exchange.foreign import os_reason
from exchange.text import Text

APPLIED: Final = "catalog.applied.json"
"""Name of the applied catalog in the node's state directory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a catalog would change."""

    changes: tuple[Change, ...]
    needs_version: tuple[str, ...] = ()
    """Resources whose records look different on the wire under an unchanged version."""

    @property
    def breaking(self) -> bool:
        """Whether a consumer or provider breaks: consent is needed."""
        return any(change.breaking for change in self.changes)

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not self.changes

    def as_dict(self) -> dict[str, object]:
        """Return the plan for JSON."""
        return {
            "empty": self.empty,
            "breaking": self.breaking,
            "changes": [change.as_dict() for change in self.changes],
            "needs_version": list(self.needs_version),
        }


def plan(applied: Catalog | None, new: Catalog) -> Plan:
    """Compare the applied catalog with a new one; pure. Nothing applied yet: all is added."""
    base = applied or Catalog(
        version=new.version, area=new.area, departments={}, tables={}, resources={}
    )
    return Plan(tuple(changes(base, new)), tuple(_stale(base, new)))


def _stale(old: Catalog, new: Catalog) -> Iterator[str]:
    for name, resource in new.resources.items():
        before = old.resources.get(name)
        if (
            before is not None
            and before.version == resource.version
            and schema_text(before) != schema_text(resource)
        ):
            yield name


def read_applied(state_dir: Path) -> Catalog | None:
    """Return the applied catalog, None before the first; raises Integrity when it was altered."""
    path = state_dir / APPLIED
    try:
        catalog = Catalog.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    except ValidationError as error:
        raise _altered(path) from error
    if catalog_digest(catalog) != catalog.digest:
        raise _altered(path)
    return catalog


def apply(
    new: Catalog, *, state_dir: Path, schemas_dir: Path, allow_breaking: bool = False
) -> Plan:
    """Make ``new`` the applied catalog and write its schemas; return what changed.

    Raises Rejected for a breaking change without consent, and always for a schema that differs
    from the released one of the same version. Applying again after a crash completes the work.
    """
    applied = read_applied(state_dir)
    same = applied is not None and applied.digest == new.digest
    decided = Plan((), ()) if same else plan(applied, new)
    if decided.breaking and not allow_breaking:
        broken = [change for change in decided.changes if change.breaking]
        raise Rejected(
            Text(
                f"有 {len(broken)} 处不兼容的变更："
                + "；".join(f"{c.where} {c.text.zh}" for c in broken),
                f"{len(broken)} breaking changes: "
                + "; ".join(f"{c.where} {c.text.en}" for c in broken),
            ),
            hint=Text(
                "与使用方协商后运行 exchange catalog apply --allow-breaking",
                "agree with the consumers, then `exchange catalog apply --allow-breaking`",
            ),
        )
    released = [(item, schemas_dir / schema_file(item)) for item in new.resources.values()]
    conflicts = {
        resource.name: resource.version
        for resource, path in released
        if resource.name in decided.needs_version or not _free_or_equal(path, resource)
    }
    if conflicts:
        names = ", ".join(f"{name} (v{version})" for name, version in conflicts.items())
        steps = ", ".join(f"{name}: version: {v + 1}" for name, v in conflicts.items())
        raise Rejected(
            Text(
                f"已发布的模式不能修改：{names}",
                f"the schema of a released version changes: {names}",
            ),
            hint=Text(f"在目录中提高版本号：{steps}", f"raise the version in the catalog: {steps}"),
        )
    try:
        for resource, path in released:
            if not path.exists():
                schema = json.dumps(avro_schema(resource), ensure_ascii=False, indent=2)
                write_file(path, f"{schema}\n".encode())
        if not same:
            write_file(state_dir / APPLIED, f"{new.model_dump_json(indent=1)}\n".encode())
    except OSError as error:
        raise _unusable(Path(error.filename or state_dir), error) from error
    return decided


def _free_or_equal(path: Path, resource: Resource) -> bool:
    """Tell whether the schema's file may be written, or says the same already."""
    try:
        return canonical(json.loads(path.read_bytes())) == schema_text(resource)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise _unusable(path, error) from error
    except ValueError:
        return False


def _altered(path: Path) -> Integrity:
    return Integrity(
        Text(f"已生效目录 {path} 内容不完整或被改动", f"the applied catalog {path} was altered"),
        hint=Text(
            "从备份恢复该文件；不要手工修改", "restore it from a backup; it is not edited by hand"
        ),
    )


def _unusable(path: Path, error: OSError) -> Transient:
    return Transient(
        Text(
            f"无法读写 {path}：{os_reason(error).zh}", f"cannot use {path}: {os_reason(error).en}"
        ),
        hint=Text("检查权限和磁盘空间后重试", "check rights and free space, then try again"),
    )
