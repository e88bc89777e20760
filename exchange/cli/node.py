"""Commands on a whole node: init, migrate, release."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.invocation import Invocation, actor
from exchange.cli.options import alone, bilingual

app = alone()


@app.command(
    help=bilingual("新建节点目录（含测试印章与模拟省级平台）", "make a new node in a folder")
)
def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help=bilingual("新目录", "a new folder"))],
    *,
    code: Annotated[
        str, typer.Option(help=bilingual("行政区划代码，如 350100", "division code of six digits"))
    ] = "",
    name: Annotated[str, typer.Option(help=bilingual("地市名称", "name of the prefecture"))] = "",
    department: Annotated[
        list[str] | None,
        typer.Option(
            help=bilingual(
                "信用代码=部门名称，可多个；第一个是数据主管部门",
                "USCC=NAME, repeatable; the first keeps the data",
            )
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8470,
    suite: Annotated[str, typer.Option(help="sm2-sm3 | ecdsa-p256-sha256")] = "sm2-sm3",
) -> int:
    """Make a new node, for the prefecture that is named or for the one of the examples."""
    from exchange.node.node import utc_now
    from exchange.node.prefecture import Prefecture
    from exchange.node.scaffold import new_node

    call: Invocation = context.obj
    output = call.output()
    named = bool(code or name or department)
    new_node(
        folder,
        now=utc_now(),
        entropy=secrets.token_bytes,
        prefecture=Prefecture.of(code, name, department or ()) if named else None,
        port=port,
        suite_id=suite,
    )
    output.inform(
        f"节点已建好：{folder}\n"
        "  exchange.yaml   配置：在 sources 下登记数据源\n"
        "  catalog.yaml    目录：登记资源与数据项\n"
        "  seals/          测试印章（软件密钥，仅供试用）\n"
        "  province/       模拟省级平台\n"
        f"下一步：cd {folder}；exchange receiver serve --config province/exchange.yaml &；"
        "exchange catalog apply；exchange doctor",
        f"the node is ready: {folder}\n"
        "  exchange.yaml   settings: name your sources there\n"
        "  catalog.yaml    the catalog: resources and their fields\n"
        "  seals/          test seals (software keys, for trying only)\n"
        "  province/       a test province\n"
        f"next: cd {folder}; exchange receiver serve --config province/exchange.yaml &; "
        "exchange catalog apply; exchange doctor",
    )
    return 0


@app.command(help=bilingual("让因超限而停止的资源继续", "let a resource that was halted go on"))
def release(context: typer.Context, resource: str) -> int:
    """Let a halted resource go on."""
    from exchange.pipeline.seal import release as release_resource

    call: Invocation = context.obj
    output = call.output()
    with call.open_node() as node:
        node.catalog.resource(resource)
        if release_resource(node.context, resource):
            node.store.audit.append(actor(), "partition.release", resource)
            output.inform(f"{resource} 已恢复", f"{resource} goes on with the next run")
        else:
            output.inform(
                f"{resource} 并未因超限而停止，没有改变；若它不前进，原因见 exchange doctor",
                f"{resource} is not halted, and nothing has changed; if it does not go on, "
                "exchange doctor tells why",
            )
            return 1
    return 0


@app.command(help=bilingual("更新存储的表结构", "bring the store's schema up to date"))
def migrate(context: typer.Context) -> int:
    """Bring the schema of the store up to date."""
    from exchange.node.node import utc_now
    from exchange.store.database import open_store
    from exchange.store.glance import HEAD

    call: Invocation = context.obj
    output, settings = call.output(), call.settings()
    address = settings.url(settings.store, call.environ)
    open_store(address, clock=utc_now, migrate=True).close()
    output.inform(f"存储结构为最新版本 {HEAD}", f"the store's schema is up to date: {HEAD}")
    return 0
