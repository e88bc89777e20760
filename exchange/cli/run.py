"""The command run: once, supervised, or as the parent of several workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from exchange.cli.node import counts, label, open_node, warn_software_keys
from exchange.cli.output import Progress, Talk
from exchange.errors import ExchangeError, Misconfigured, Transient
from exchange.node.node import Node
from exchange.settings import Duration
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.run.metrics import Meter

_AGAIN_SECONDS = 1.0
"""Pause between two attempts to reach log and store at the start."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Stop(threading.Event):
    """A person's wish to stop.

    The main loop asks for it at every step: ``asked`` hears of it, and knows the loop alive.
    """

    def __init__(self) -> None:
        """Wish nothing yet."""
        super().__init__()
        self.asked: Callable[[], None] = lambda: None

    def is_set(self) -> bool:
        """Tell whether to stop."""
        if threading.current_thread() is threading.main_thread():
            self.asked()
        return super().is_set()

    def on_signals(self, say: Callable[[str, str], None]) -> None:
        """Set it with SIGTERM and SIGINT."""

        def ask(_number: int, _frame: FrameType | None) -> None:
            say("正在停止：完成手头的工作", "stopping: finishing what is under way")
            self.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)


def rooms(only: Sequence[str]) -> tuple[str, ...]:
    """Return the rooms to run, all when none is named."""
    from exchange.run.runner import ROOMS

    for name in only:
        if name not in ROOMS:
            raise Misconfigured(
                Text(f"没有名为 {name} 的环节", f"there is no room {name}"),
                hint=Text(f"可用：{', '.join(ROOMS)}", f"one of: {', '.join(ROOMS)}"),
            )
    return tuple(room for room in ROOMS if not only or room in only)


def run(
    talk: Talk,
    sources: Sequence[str] | None,
    only: Sequence[str],
    *,
    once: bool,
    wait: str,
    drain: str,
    worker: str,
    leash: int | None,
) -> int:
    """Run the doors once, or by schedule until SIGTERM or SIGINT.

    ``worker`` names one of several; ``leash``: a file descriptor that ends when its parent does.
    """
    from exchange.run.runner import Runner

    say = _voice(talk, worker)
    stop = Stop()
    if not once:
        stop.on_signals(say)
    if leash is not None:
        _leash(leash, stop, say, seconds("--drain", drain))
    with open_node(worker) as node:
        warn_software_keys(talk, node)
        node.take_up_catalog()
        _reach(node, seconds("--wait", wait), stop, say)
        progress = Progress(talk, talk.t("拉取", "pulled"))

        def said(what: str, count: int) -> None:
            progress.add(count if what == "pulled" else 0)

        if not once:
            return _supervise(node, only, stop, said=said, say=say)
        outcome = Runner(node, said, rooms=only).once(sources)
        progress.end()
        numbers = counts(outcome)
        talk.answer(
            numbers
            | {
                "ignored": outcome.ignored,
                "coarsened": outcome.coarsened,
                "errors": {k: _told(e) for k, e in outcome.errors.items()},
            }
        )
        talk.table(
            talk.t("本次运行", "this run"),
            [talk.t("项目", "what"), talk.t("数量", "count")],
            [(label(talk, name), f"{value:,}") for name, value in numbers.items()],
        )
        _say_left_out(talk, outcome)
        for name, error in outcome.errors.items():
            talk.say(f"— {name}")
            talk.error(error)
        worst = outcome.error()
        return worst.exit_code if worst is not None else 0


def _say_left_out(talk: Talk, outcome: Any) -> None:
    """Say what of the sources is not in the sealed records: nothing is left out in silence."""
    for resource, columns in outcome.ignored.items():
        names = ", ".join(columns)
        talk.say(
            talk.t(
                f"{resource}：目录中没有这些来源列，未封签：{names}",
                f"{resource}: columns that the catalog does not name, not sealed: {names}",
            )
        )
    for resource, fields in outcome.coarsened.items():
        names = ", ".join(f"{name} {count:,}" for name, count in fields.items())
        talk.say(
            talk.t(
                f"{resource}：时间精确到毫秒，更细的部分未保留：{names}",
                f"{resource}: instants are kept to the millisecond, finer parts are not: {names}",
            )
        )


def _told(error: ExchangeError) -> Mapping[str, Any]:
    return {"error": type(error).__name__, "what": error.what._asdict()}


def _voice(talk: Talk, worker: str) -> Callable[[str, str], None]:
    """Talk to the person; a worker says its name first."""
    head = f"{worker}: " if worker else ""
    return lambda zh, en: talk.say(head + talk.t(zh, en))


def seconds(option: str, text: str) -> float:
    """Read a duration of the command line."""
    try:
        return float(TypeAdapter(Duration).validate_python(text).total_seconds())
    except ValidationError as error:
        raise Misconfigured(
            Text(f"{option} {text} 不是时长", f"{option} {text} is no duration"),
            hint=Text("例如 30s、15m、2h", "write it like 30s, 15m, 2h"),
        ) from error


def _reach(
    node: Node, patience: float, stop: threading.Event, say: Callable[[str, str], None]
) -> None:
    """Open log and store; what cannot be reached is tried again for ``patience`` seconds."""
    end = time.monotonic() + patience
    waited = False
    while patience and not stop.is_set():
        try:
            _open(node)
        except Transient as error:
            if time.monotonic() >= end:
                raise
            if not waited:
                say(f"等待：{error.what.zh}", f"waiting: {error.what.en}")
            waited = True
            stop.wait(_AGAIN_SECONDS)
        else:
            return


def _open(node: Node) -> None:
    assert node.log  # noqa: S101 - both are opened by being named
    assert node.store  # noqa: S101


def _leash(
    descriptor: int, stop: threading.Event, say: Callable[[str, str], None], drain: float
) -> None:
    """Finish when the parent is gone, within the time that it would have given."""
    from exchange.run.supervisor import on_leash

    def let_go() -> None:
        say("父进程已不在：完成手头的工作", "the parent is gone: finishing what is under way")
        stop.set()
        time.sleep(drain)
        os._exit(Transient.exit_code)

    on_leash(descriptor, let_go)


def crew(
    talk: Talk, only: Sequence[str], count: int, *, prefix: str | None, wait: str, drain: str
) -> int:
    """Run several workers on this machine and look after them; return the worst exit code."""
    from exchange.run.supervisor import Crew

    stop = Stop()
    say = _voice(talk, "")
    stop.on_signals(say)
    names = _names(prefix, count)
    bound = seconds("--drain", drain)
    with open_node() as node:
        if count > 1 and node.settings.log.driver != "kafka":
            raise Misconfigured(
                Text(
                    "内嵌日志是本机的一个文件，只供一个工作进程使用",
                    "the embedded log is one file on one machine: it serves one worker",
                ),
                hint=Text(
                    "使用 --workers 1，或改用 log.driver: kafka",
                    "use --workers 1, or log.driver: kafka",
                ),
            )
        warn_software_keys(talk, node)
        node.take_up_catalog()  # once, before there are several who would
        _reach(node, seconds("--wait", wait), stop, say)
        if not stop.is_set():
            _open(node)
    command = [sys.executable, "-m", "exchange", "run", "--wait", wait, "--drain", drain]
    command += [part for room in only for part in ("--only", room)]
    commands = {name: [*command, "--worker", name] for name in names}
    return Crew(commands, lambda what: say(*what), time.monotonic, bound).run(stop)


def _names(prefix: str | None, count: int) -> list[str]:
    """Name the workers; the same after a restart, so that each takes up what it left."""
    given = prefix if prefix is not None else re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    if not _NAME.fullmatch(given):
        raise Misconfigured(
            Text(f"--name {given} 不合规则", f"--name {given} cannot be used"),
            hint=Text(
                "用 1–100 个字母、数字、点、下划线或连字符",
                "use 1-100 letters, digits, dots, underscores or hyphens",
            ),
        )
    return [f"{given}-{number}" for number in range(count)]


def _supervise(
    node: Node,
    only: Sequence[str],
    stop: Stop,
    *,
    said: Callable[[str, int], None],
    say: Callable[[str, str], None],
) -> int:
    from exchange.run.runner import Runner

    with _metered(node) as meter:

        def told(what: str, count: int) -> None:
            said(what, count)
            if meter is not None:
                meter.said(what, count)

        def report(name: str, error: ExchangeError) -> None:
            moment = datetime.now(UTC).isoformat(timespec="seconds")
            line = {"at": moment, "worker": node.worker, "subject": name, **_told(error)}
            sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stderr.flush()
            if meter is not None:
                meter.failed(name, error)

        if meter is not None:
            stop.asked = meter.turned
        say("运行中；Ctrl-C 或 SIGTERM 停止", "running; Ctrl-C or SIGTERM stops it")
        turned = meter.outcome if meter is not None else (lambda _outcome: None)
        Runner(node, told, rooms=only, turned=turned).forever(stop, report)
    say("已停止", "stopped")
    return 0


@contextmanager
def _metered(node: Node) -> Iterator[Meter | None]:
    """Serve the numbers of a run when the settings ask for it."""
    section = node.settings.metrics
    if section is None:
        yield None
        return
    try:
        from exchange.run.metrics import Meter, serving
    except ImportError as error:
        raise Misconfigured(
            Text("指标需要 prometheus-client", "metrics need prometheus-client"),
            hint=Text("pip install 'gov-exchange[metrics]'", "pip install 'gov-exchange[metrics]'"),
        ) from error
    from exchange.run.status import Survey

    found = re.search(r"-(\d{1,5})$", node.worker)
    port = section.port + (int(found[1]) if found is not None else 0)
    meter = Meter(
        Survey(node),
        driver=node.settings.log.driver,
        worker=node.worker,
        clock=node.clock,
        monotonic=time.monotonic,
        stall=section.stall.total_seconds(),
    )
    with serving(meter, section.host, port, monotonic=time.monotonic):
        yield meter
