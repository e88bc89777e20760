"""The command ``notify``: try the channels of the notices."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, bilingual, group
from exchange.errors import ExchangeError, Misconfigured
from exchange.text import Text

app = group("notify", "通知：试发", "notices: try the channels")


@app.callback()
def notify() -> None:
    """Keep the group a group, whatever the number of its commands."""


@app.command("test", help=bilingual("向各渠道发一条测试通知", "send a test over each channel"))
def send_test(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHANNEL...", help=bilingual("渠道（默认全部）", "channels (default: all)")
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> int:
    """Send a test notice over each channel; the exit code is the highest of those that fail."""
    from exchange.run.notice_loop import send_notice
    from exchange.run.notices import Notice

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node:
        settings = node.settings.notify
        known = {} if settings is None else settings.channels
        if settings is None or not known or set(names or ()) - known.keys():
            raise Misconfigured(
                Text("没有这样的通知渠道", "there is no such channel"),
                hint=Text(
                    f"notify 中已配置：{', '.join(known) or '无'}",
                    f"in `notify`: {', '.join(known) or 'none'}",
                ),
            )
        title = node.settings.node.name
        notice = Notice(
            Text(f"【{title}】测试通知", f"[{title}] a test"),
            (Text("收到即表示该渠道可用", "the channel works if you read this"),),
        )
        errors: dict[str, ExchangeError] = {}
        for name in names or known:
            try:
                send_notice(node, settings, name, notice, time.monotonic)
            except ExchangeError as error:
                errors[name] = error
            if not output.as_json and name not in errors:
                output.answer(None, output.t(f"{name}：已发出", f"{name}: sent"))
    failed = {name: error.what._asdict() for name, error in errors.items()}
    output.answer({"channels": list(names or known), "failed": failed})
    for name, failure in errors.items():
        output.inform(f"— {name}")
        output.error(failure)
    return max((failure.exit_code for failure in errors.values()), default=0)
