"""Entry of the command ``exchange``. It loads what a command line needs, and nothing else."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from exchange import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from exchange.cli.invocation import Invocation
    from exchange.errors import ExchangeError

_ANYWHERE = {"--config": "EXCHANGE_CONFIG", "--lang": "EXCHANGE_LANG"}


def take_global(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take ``--config X`` and ``--lang X`` from anywhere; return the rest and their values."""
    rest: list[str] = []
    values: dict[str, str] = {}
    items = iter(arguments)
    for item in items:
        name, equals, value = item.partition("=")
        if item == "--":
            rest += [item, *items]
        elif name not in _ANYWHERE:
            rest.append(item)
        elif equals:
            values[_ANYWHERE[name]] = value
        else:
            following = next(items, None)
            if following is None:
                rest.append(item)
            else:
                values[_ANYWHERE[name]] = following
    return rest, values


def language(environ: Mapping[str, str]) -> str:
    """Choose ``zh`` or ``en``: ``$EXCHANGE_LANG``, else the locale."""
    name = environ.get("EXCHANGE_LANG") or environ.get("LC_ALL") or environ.get("LANG")
    if not name:
        import locale

        name = locale.getlocale()[0] or ""
    return "zh" if name.lower().startswith(("zh", "chinese")) else "en"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return its exit code."""
    rest, values = take_global(arguments)
    if rest in (["version"], ["--version"]):
        return _version({**environ, **values})
    from exchange.cli.invocation import Invocation
    from exchange.errors import ExchangeError

    environ = {**environ, **values}
    call = Invocation(language(environ), environ)
    output = call.output(as_json="--json" in rest)
    try:
        return _run(call, rest)
    except ExchangeError as error:
        output.error(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        missing = _missing_extra(error)
        if missing is None:
            raise
        output.error(missing)
        return missing.exit_code
    except KeyboardInterrupt:
        output.inform("已停止，未丢失任何数据", "stopped; nothing is lost")
        return 130
    except BrokenPipeError:
        # The reader of our output went away (head, less): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _version(environ: Mapping[str, str]) -> int:
    from exchange.seal.crypto.hash_kernel import chosen

    hashing = chosen().text.pick(language(environ))
    sys.stdout.write(f"exchange {__version__}\n{hashing}\n")
    return 0


def _run(call: Invocation, arguments: Sequence[str]) -> int:
    if arguments[:1] in (["verify"], ["prove"]):  # they run where Typer is missing
        from exchange.cli import verify

        return verify.run(call, arguments)
    try:
        from exchange.cli.assembly import run_command
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        from exchange.cli import verify

        return verify.alone(call, arguments)
    return run_command(call, arguments)


def _missing_extra(error: ModuleNotFoundError) -> ExchangeError | None:
    """Name the extra that brings a missing package; None for a package of no extra."""
    from exchange.errors import Misconfigured
    from exchange.foreign import missing_package

    missing = missing_package(error)
    return None if missing is None else Misconfigured(missing[0], hint=missing[1])


def run() -> NoReturn:
    """Console script."""
    # Data, exports and received files are for this user alone, whatever the shell's default is.
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A GBK or ASCII terminal must not turn Chinese output into a crash.
            stream.reconfigure(errors="replace")
    # Looking through all that is installed for plugins of pydantic takes longer than a status.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(main(sys.argv[1:], os.environ))
