"""What command lines share: help in two languages, groups, options of several commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from exchange.text import Text


def bilingual(zh: str, en: str) -> str:
    """Join a help text's two languages; :func:`translate` picks one when the command is known."""
    return Text(zh, en).joined()


def translate(command: Any, lang: str) -> None:
    """Pick one language in the help of a command, its options and its subcommands."""
    for item in (command, *command.params):
        if help_text := getattr(item, "help", None):
            item.help = Text.split(help_text).pick(lang)
    for sub in getattr(command, "commands", {}).values():
        translate(sub, lang)


def group(name: str, zh: str, en: str) -> typer.Typer:
    """Make the application of a group of commands."""
    return typer.Typer(
        name=name,
        help=bilingual(zh, en),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )


def alone() -> typer.Typer:
    """Make the application of commands that stand in no group."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


Json = Annotated[bool, typer.Option("--json", help=bilingual("以 JSON 输出", "answer as JSON"))]
OptionalResource = Annotated[
    str | None,
    typer.Argument(metavar="RESOURCE", help=bilingual("资源（默认全部）", "default: all")),
]
BatchNumber = Annotated[
    str, typer.Argument(metavar="BATCH", help=bilingual("批次号", "batch number"))
]
