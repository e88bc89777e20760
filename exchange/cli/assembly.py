"""The tree of commands. A group's module is imported when one of its commands is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import alone, bilingual, translate
from exchange.cli.output import USAGE
from exchange.cli.usage import page, page_of, reason
from exchange.text import Text

_MODULES = {
    "demo": "demo",
    "init": "node",
    "doctor": "doctor",
    "catalog": "catalog",
    "connector": "connector",
    "source": "source",
    "notify": "notify",
    "run": "run",
    "publish": "publish",
    "status": "status",
    "recover": "recover",
    "release": "node",
    "migrate": "node",
    "quarantine": "quarantine",
    "cascade": "cascade",
    "audit": "audit",
    "evidence": "evidence",
    "log": "log",
    "seal": "seal",
    "verify": "assembly",
    "prove": "assembly",
    "convert": "convert",
    "find": "find",
    "receiver": "receiver",
    "bench": "bench",
    "version": "assembly",
}
"""The module of each command or group, in the order of the help."""
_COMPLETION = {
    "install_completion": Text("为当前命令行环境安装补全", "install completion for this shell"),
    "show_completion": Text("显示补全脚本", "show the script of completion"),
}
_UsageError: Any = typer.BadParameter.__base__
"""The error of a command line that cannot be read; Typer exports only this subclass of it."""

app = alone()


# exchange.cli.main answers these three before it comes here: they stand here for the help.


@app.command(
    help=bilingual(
        "离线验证批次、回执、证明、存证包、检查点、印章", "verify any file of evidence; offline"
    )
)
def verify() -> None:
    """Stand in the help."""


@app.command(help=bilingual("从批次中取出一条记录的证明", "prove one record of a batch"))
def prove() -> None:
    """Stand in the help."""


@app.command(help=bilingual("版本", "version"))
def version() -> None:
    """Stand in the help."""


root = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=bilingual(
        "地市节点：采集、校验、封签、级联、回执。\n\n"
        "每条命令都可加 --config 文件 与 --lang zh|en。\n\n"
        "退出码：0 成功 · 1 检查未通过 · 2 有待生效的变更 · 3 配置 · 4 连不上 · 5 无权限 · "
        "6 印章、回执或证据不成立 · 64 用法",
        "The prefecture node: pull, validate, seal, cascade, receipt.\n\n"
        "Every command takes --config FILE and --lang zh|en.\n\n"
        "Exit codes: 0 done · 1 a check failed · 2 changes pending · 3 configuration · "
        "4 cannot reach · 5 denied · 6 does not verify · 64 usage",
    ),
)


@root.callback()
def options(
    *,
    version: Annotated[bool, typer.Option("--version", help=bilingual("版本", "version"))] = False,
) -> None:
    """Name the options that stand before a command; ``main`` answers this one."""


class _Commands(Mapping[str, Any]):
    """The commands by name, in one language."""

    def __init__(self, lang: str) -> None:
        self._lang = lang

    def __getitem__(self, name: str) -> Any:
        module = import_module(f"exchange.cli.{_MODULES[name]}")
        command: Any = typer.main.get_command(module.app)
        command = getattr(command, "commands", {}).get(name, command)
        translate(command, self._lang)
        _speak(command, self._lang)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


def command_tree(lang: str) -> Any:
    """Build the tree for a language."""
    tree: Any = typer.main.get_command(root)
    translate(tree, lang)
    for option in tree.params:  # Typer's own, which speak English
        if option.name in _COMPLETION:
            option.help = _COMPLETION[option.name].pick(lang)
    page_of(tree, lang)
    tree.commands = _Commands(lang)
    return tree


def _speak(command: Any, lang: str) -> None:
    page_of(command, lang)
    for sub in getattr(command, "commands", {}).values():
        _speak(sub, lang)


def _show(call: Invocation, error: Any) -> None:
    """Say what is wrong with a command line, below the line of usage."""
    output = call.output()
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(error.format_message() + "\n")
        return
    if error.ctx is not None:
        usage = page(error.ctx.get_usage(), call.lang)
        path = error.ctx.command_path
        output.inform(f"{usage}\n用 {path} -h 查看帮助\n", f"{usage}\nTry '{path} -h' for help.\n")
    why = reason(error)
    output.inform(f"错误：{why.zh}", f"Error: {why.en}")


def run_command(call: Invocation, arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    tree = command_tree(call.lang)
    try:
        code = tree.main(list(arguments), prog_name="exchange", standalone_mode=False, obj=call)
    except _UsageError as error:
        _show(call, error)
        return USAGE
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0
