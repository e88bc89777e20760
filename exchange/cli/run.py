"""The command ``run``: once, supervised, or as the parent of several workers."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import Output, Progress
from exchange.cli.stop import Stop
from exchange.errors import ExchangeError, Misconfigured, Transient
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.cli.run_log import RunLog, RunProgress
    from exchange.node.node import Node
    from exchange.run.audit_schedule import ScheduledAudit
    from exchange.run.metrics import Meter
    from exchange.run.outcome import RunOutcome, Where

_AGAIN_SECONDS = 1.0
"""Pause between two attempts to reach log and store at the start."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def choose_stages(only: Sequence[str]) -> tuple[str, ...]:
    """Return the stages to run, all when none is named."""
    from exchange.run.runner import STAGES

    for name in only:
        if name not in STAGES:
            raise Misconfigured(
                Text(f"没有名为 {name} 的环节", f"there is no stage {name}"),
                hint=Text(f"可用：{', '.join(STAGES)}", f"one of: {', '.join(STAGES)}"),
            )
    return tuple(stage for stage in STAGES if not only or stage in only)


app = alone()


@app.command(
    help=bilingual("运行：一次（--once）或按计划持续运行", "run once, or by schedule until stopped")
)
def run(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(help=bilingual("数据源（默认全部）", "sources (default: all)")),
    ] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help=bilingual("只运行一次", "once"))] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help=bilingual(
                "只运行这一环节，可多个：pull|seal|cascade|evidence",
                "this stage only, repeatable: pull|seal|cascade|evidence",
            ),
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help=bilingual(
                "启动并看护这么多个工作进程（多于一个需要 Kafka）",
                "start and look after so many processes (more than one needs Kafka)",
            ),
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help=bilingual(
                "工作进程的名称前缀（默认主机名）", "prefix of their names (default: host)"
            )
        ),
    ] = None,
    wait: Annotated[
        str,
        typer.Option(
            help=bilingual(
                "启动时日志或存储连不上，等待这么久", "wait so long for log and store at start"
            )
        ),
    ] = "0s",
    drain: Annotated[
        str,
        typer.Option(
            help=bilingual(
                "停止时给工作进程的时间", "time that workers have to finish when stopped"
            )
        ),
    ] = "60s",
    log: Annotated[
        Path | None,
        typer.Option(
            help=bilingual(
                "把每次拉取和错误以 JSON 行追加到文件",
                "append each pull and error to this file as JSON lines",
            )
        ),
    ] = None,
    worker: Annotated[str, typer.Option(hidden=True)] = "",
    parent_pipe: Annotated[int | None, typer.Option(hidden=True)] = None,
    as_json: Json = False,
) -> int:
    """Run the stages once, by schedule until SIGTERM or SIGINT, or as a parent of workers.

    ``worker`` names one of several; ``parent_pipe``: a descriptor that ends when its parent does.
    """
    call: Invocation = context.obj
    stages = choose_stages(only or ())
    if workers is not None:
        if once or sources:
            raise typer.BadParameter(
                bilingual("不能与 --once 或数据源同用", "neither with --once nor with sources"),
                param_hint="--workers",
            )
        worker_options = ["--json"] if as_json else []
        worker_options += [] if log is None else ["--log", str(log.absolute())]
        return _supervise_workers(
            call, stages, workers, prefix=name, wait=wait, drain=drain, options=worker_options
        )
    from exchange.cli.run_log import RunLog, RunProgress, open_log

    output = call.output(as_json=as_json)
    notify = _notifier(output, worker)
    stop = Stop()
    if not once:
        stop.on_signals(notify)
    if parent_pipe is not None:
        _follow_parent(parent_pipe, stop, notify, seconds("--drain", drain))
    with open_log(log) as file, call.open_node(worker) as node:
        warn_software_keys(output, node)
        node.take_up_catalog()
        _reach(node, seconds("--wait", wait), stop, notify)
        if once:
            progress = RunProgress(Progress(output, output.t("拉取", "pulled")))
            return _run_once(node, progress, sources, stages, file)
        run_log = RunLog(output, worker, file)
        return _run_until(node, stages, stop, run_log, notify, audits=_audits(node, call))


def _run_once(
    node: Node,
    progress: RunProgress,
    sources: Sequence[str] | None,
    stages: Sequence[str],
    file: IO[str] | None,
) -> int:
    from exchange.cli.run_log import RunLog
    from exchange.run.runner import Runner

    output = progress.line.output
    log = RunLog(output, node.worker, file)
    outcome = Runner(node, progress.count, stages=stages, report_pull=log.keep_pull).once(sources)
    progress.line.end()
    numbers = counts(outcome)
    output.answer(
        numbers
        | {
            "ignored": outcome.ignored,
            "absent": outcome.absent,
            "appeared": outcome.appeared,
            "coarsened": outcome.coarsened,
            "resting": {name: why._asdict() for name, why in outcome.resting.items()},
            "unasked": None if outcome.unasked is None else outcome.unasked._asdict(),
            "errors": {str(where): _facts(error) for where, error in outcome.errors.items()},
        }
    )
    output.table(
        output.t("本次运行", "this run"),
        [output.t("项目", "what"), output.t("数量", "count")],
        [(output.text(_COUNTS[name]), f"{value:,}") for name, value in numbers.items()],
    )
    _report_left_out(output, outcome)
    if outcome.unasked is not None:
        output.inform(
            f"没有问到见证方，整体是否为旧副本未核对：{outcome.unasked.zh}",
            "the witness was not asked, so nobody outside says whether all of this is an older"
            f" copy: {outcome.unasked.en}",
        )
    for name, error in outcome.errors.items():
        output.inform(f"— {name}")
        output.error(error)
    worst = outcome.error()
    return worst.exit_code if worst is not None else 0


_COUNTS: Mapping[str, Text] = {
    "pulled": Text("拉取记录", "records pulled"),
    "accepted": Text("合格并封签", "accepted and sealed"),
    "quarantined": Text("隔离", "quarantined"),
    "notes": Text("不是记录的行（标题、分组）", "rows that are no records"),
    "batches": Text("封签批次", "batches sealed"),
    "receipts": Text("回执", "receipts"),
    "refused": Text("省级退回", "refused by the province"),
    "waiting": Text("待投递批次", "batches waiting"),
}
"""The numbers of a run, in the order of the flow."""


def counts(outcome: RunOutcome) -> dict[str, int]:
    """Return the numbers of a run."""
    return {name: getattr(outcome, name) for name in _COUNTS}


def warn_software_keys(output: Output, node: Node) -> None:
    """Warn loudly when a production node seals with a key kept in software."""
    if not node.settings.production:
        return
    from exchange.seal.pki.signers import SOFTWARE_KEY_WARNING

    for name, seal in node.settings.seals.items():
        if node.seals.open(seal).signer.software:
            output.inform(f"!!! {name}: {output.text(SOFTWARE_KEY_WARNING)}")


def _report_left_out(output: Output, outcome: RunOutcome) -> None:
    """Name what of the sources is not in the sealed records: nothing is left out in silence."""
    for resource, columns in outcome.ignored.items():
        names = ", ".join(columns)
        output.inform(
            f"{resource}：目录中没有这些来源列，未封签：{names}",
            f"{resource}: columns that the catalog does not name, not sealed: {names}",
        )
    for source, columns in outcome.absent.items():
        names = ", ".join(columns)
        output.inform(
            f"{source}：来源缺少目录登记的列，相应数据项为空：{names}",
            f"{source}: columns that the catalog names and the source lacks, "
            f"their fields are empty: {names}",
        )
    for source, columns in outcome.appeared.items():
        names = ", ".join(columns)
        output.inform(
            f"{source}：来源出现目录没有登记的新列：{names}",
            f"{source}: columns have appeared that the catalog does not name: {names}",
        )
    for source, why in outcome.resting.items():
        output.inform(f"{source}：未拉取，{why.zh}", f"{source}: not pulled, {why.en}")
    for resource, fields in outcome.coarsened.items():
        names = ", ".join(f"{name} {count:,}" for name, count in fields.items())
        output.inform(
            f"{resource}：时间精确到毫秒，更细的部分未保留：{names}",
            f"{resource}: instants are kept to the millisecond, finer parts are not: {names}",
        )


def _facts(error: ExchangeError) -> Mapping[str, Any]:
    return {"error": type(error).__name__, "what": error.what._asdict()}


def _notifier(output: Output, worker: str) -> Callable[[str, str], None]:
    """Return what writes a message for the person; a worker's begins with its name."""
    head = f"{worker}: " if worker else ""
    return lambda zh, en: output.inform(head + output.t(zh, en))


def seconds(option: str, text: str) -> float:
    """Read a duration of the command line."""
    from pydantic import TypeAdapter, ValidationError

    from exchange.settings import Duration

    try:
        return float(TypeAdapter(Duration).validate_python(text).total_seconds())
    except ValidationError as error:
        raise Misconfigured(
            Text(f"{option} {text} 不是时长", f"{option} {text} is no duration"),
            hint=Text("例如 30s、15m、2h", "write it like 30s, 15m, 2h"),
        ) from error


def _reach(
    node: Node, patience: float, stop: threading.Event, notify: Callable[[str, str], None]
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
                notify(f"等待：{error.what.zh}", f"waiting: {error.what.en}")
            waited = True
            stop.wait(_AGAIN_SECONDS)
        else:
            return


def _open(node: Node) -> None:
    assert node.log  # noqa: S101 - both are opened by being named
    assert node.store  # noqa: S101


def _follow_parent(
    descriptor: int, stop: threading.Event, notify: Callable[[str, str], None], drain: float
) -> None:
    """Finish when the parent is gone, within the time that it would have given."""
    from exchange.run.supervisor import watch_parent

    def finish() -> None:
        notify("父进程已不在：完成手头的工作", "the parent is gone: finishing what is under way")
        stop.set()
        time.sleep(drain)
        os._exit(Transient.exit_code)

    watch_parent(descriptor, finish)


def _supervise_workers(
    call: Invocation,
    stages: Sequence[str],
    count: int,
    *,
    prefix: str | None,
    wait: str,
    drain: str,
    options: Sequence[str],
) -> int:
    """Run several workers on this machine and look after them; return the worst exit code."""
    from exchange.run.supervisor import Supervisor

    output = call.output()
    stop = Stop()
    notify = _notifier(output, "")
    stop.on_signals(notify)
    names = _names(prefix, count)
    drain_seconds = seconds("--drain", drain)
    settings_path = call.settings_path()
    with call.open_node() as node:
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
        warn_software_keys(output, node)
        node.take_up_catalog()  # once, before there are several who would
        _reach(node, seconds("--wait", wait), stop, notify)
        if not stop.is_set():
            _open(node)
    command = [sys.executable, "-m", "exchange", "run", "--wait", wait, "--drain", drain, *options]
    command += ["--config", str(settings_path), "--lang", call.lang]
    command += [part for stage in stages for part in ("--only", stage)]
    commands = {name: [*command, "--worker", name] for name in names}
    return Supervisor(commands, lambda text: notify(*text), time.monotonic, drain_seconds).run(stop)


def _names(prefix: str | None, count: int) -> list[str]:
    """Name the workers; the same after a restart, so that each takes up what it left."""
    base = prefix if prefix is not None else re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    if not _NAME.fullmatch(base):
        raise Misconfigured(
            Text(f"--name {base} 不合规则", f"--name {base} cannot be used"),
            hint=Text(
                "用 1–100 个字母、数字、点、下划线或连字符",
                "use 1-100 letters, digits, dots, underscores or hyphens",
            ),
        )
    return [f"{base}-{number}" for number in range(count)]


def _run_until(
    node: Node,
    stages: Sequence[str],
    stop: Stop,
    log: RunLog,
    notify: Callable[[str, str], None],
    *,
    audits: ScheduledAudit | None,
) -> int:
    from exchange.run.runner import Runner

    with _metered(node) as meter:

        def count(what: str, number: int) -> None:
            if meter is not None:
                meter.progress(what, number)

        def report(where: Where, error: ExchangeError) -> None:
            log.error(where, error)
            if meter is not None:
                meter.count_error(where, error)

        def heartbeat(outcome: RunOutcome) -> None:
            if meter is not None:
                meter.show_errors(outcome.errors)

        if meter is not None:
            stop.heartbeat = meter.heartbeat
        notify("运行中；Ctrl-C 或 SIGTERM 停止", "running; Ctrl-C or SIGTERM stops it")
        runner = Runner(
            node,
            count,
            stages=stages,
            audits=audits,
            heartbeat=heartbeat,
            report_pull=log.pull,
        )
        runner.forever(stop, report)
    notify("已停止", "stopped")
    return 0


def _audits(node: Node, call: Invocation) -> ScheduledAudit | None:
    """Return the audit by schedule, as the settings want it."""
    from exchange.run.audit_schedule import ScheduledAudit

    section = node.settings.audit
    if section is None:
        return None
    command = [sys.executable, "-m", "exchange", "audit", "--json"]
    command += ["--config", str(call.settings_path()), "--lang", call.lang]
    folder = node.settings.resolve(section.folder)
    return ScheduledAudit(command, folder, section.every, section.keep, node.clock)


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
    from exchange.run.status import StatusReader

    number = re.search(r"-(\d{1,5})$", node.worker)
    port = section.port + (int(number[1]) if number is not None else 0)
    meter = Meter(
        StatusReader(node),
        driver=node.settings.log.driver,
        worker=node.worker,
        clock=node.clock,
        monotonic=time.monotonic,
        stall=section.stall.total_seconds(),
    )
    with serving(meter, section.host, port, monotonic=time.monotonic):
        yield meter
