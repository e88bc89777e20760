"""Find connectors: installed ones by entry point, local ones by ``path/to/file.py:name``."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from pathlib import Path

from exchange.connect.error_map import map_errors
from exchange.connect.surface import Connector
from exchange.errors import Misconfigured
from exchange.text import Text, suggest

GROUP = "exchange.connectors"


def installed() -> list[str]:
    """List the names of installed connectors, in order."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find(name: str, *, base: Path = Path()) -> Connector:
    """Return the connector ``name``; raises Misconfigured with a suggestion.

    ``path/to/file.py:variable`` loads a local plugin, relative to ``base``.
    """
    path, separator, variable = name.rpartition(":")
    if separator and path.endswith(".py"):
        return _local(base / path, variable)
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        near = suggest(name, installed())
        raise Misconfigured(
            Text(f"没有名为 {name} 的连接器", f"there is no connector {name}"),
            hint=Text(
                f"{near.zh} 本地连接器请写 文件.py:名称",
                f"{near.en} A local one is written file.py:name",
            ),
        )
    with map_errors(name, ()):
        return _connector(points[0].load(), name)


def _local(path: Path, variable: str) -> Connector:
    spec = importlib.util.spec_from_file_location(f"exchange_plugin_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise Misconfigured(
            Text(f"找不到连接器文件 {path}", f"there is no connector file {path}"),
            hint=Text("路径从配置文件所在目录算起", "paths start at the settings file's folder"),
        )
    module = importlib.util.module_from_spec(spec)
    with map_errors(f"{path}:{variable}", ()):
        spec.loader.exec_module(module)
    return _connector(getattr(module, variable, None), f"{path}:{variable}")


def _connector(candidate: object, name: str) -> Connector:
    if isinstance(candidate, Connector):
        return candidate
    raise Misconfigured(
        Text(f"{name} 不是连接器", f"{name} is no connector"),
        hint=Text(
            '函数上要有 @connector("名称")', 'the function needs @connector("name") above it'
        ),
    )
