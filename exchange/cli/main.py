"""Entry of the command ``exchange``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from exchange.cli.output import Talk, language
from exchange.errors import ExchangeError

USAGE = 64
"""Exit code for a command line that cannot be read (sysexits.h EX_USAGE)."""
_ANYWHERE = {"--config": "EXCHANGE_CONFIG", "--lang": "EXCHANGE_LANG"}


def take_global(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take ``--config X`` and ``--lang X`` from anywhere; return the rest and their values."""
    rest: list[str] = []
    taken: dict[str, str] = {}
    items = iter(arguments)
    for item in items:
        name, equals, value = item.partition("=")
        if item == "--":
            rest += [item, *items]
        elif name not in _ANYWHERE:
            rest.append(item)
        elif equals:
            taken[_ANYWHERE[name]] = value
        else:
            following = next(items, None)
            if following is None:
                rest.append(item)
            else:
                taken[_ANYWHERE[name]] = following
    return rest, taken


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    rest, taken = take_global(arguments)
    os.environ.update(taken)
    talk = Talk(language(), as_json="--json" in rest)

    try:
        return _run(talk, rest)
    except ExchangeError as error:
        talk.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        talk.say(talk.t("已停止，未丢失任何数据", "stopped; nothing is lost"))
        return 130
    except BrokenPipeError:
        # The reader of our output went away (head, less): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(talk: Talk, arguments: Sequence[str]) -> int:
    from exchange.cli import evidence

    if arguments and arguments[0] in evidence.COMMANDS:
        return evidence.run(talk, arguments)
    try:
        from exchange.cli.commands import application
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "exchange":
            raise
        return evidence.alone(talk, arguments)
    return application(talk.lang, list(arguments))


def run() -> NoReturn:
    """Console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A GBK or ASCII terminal must not turn Chinese output into a crash.
            stream.reconfigure(errors="replace")
    sys.exit(main(sys.argv[1:]))
