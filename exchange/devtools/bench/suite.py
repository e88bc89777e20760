"""The whole bench in its order, and what its figures are held against.

:func:`measure` yields measurements as they are made, each a dict that goes out as one JSON
line; :func:`figures` draws from them what the targets speak of.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from psycopg import sql

from exchange.catalog.avro import avro_schema
from exchange.devtools.bench import floor, rowpath, stage_cost
from exchange.devtools.bench.evidence_cost import audited, packaged
from exchange.devtools.bench.kafka_job import publishing, rebalance, shared, whole
from exchange.devtools.bench.measure import machine, median
from exchange.devtools.bench.person_table import RESOURCE, load_postgres, write_csv
from exchange.devtools.bench.postgres_connection import database
from exchange.devtools.bench.whole_job import (
    MILLION,
    TABLE_ROWS,
    URL,
    Feed,
    Run,
    copy_without_kernel,
    csv_feed,
    help_seconds,
    make_node,
    many_feed,
    receiver,
    run,
    table_feed,
)
from exchange.devtools.servers.ports import free_port
from exchange.devtools.servers.postgres import Missing, Server, postgres
from exchange.node.node import Node
from exchange.seal.crypto.hash_kernel import chosen
from exchange.settings import load as load_settings
from exchange.text import Text

SERVER: Final = "EXCHANGE_BENCH_POSTGRES"
"""Environment variable that names a PostgreSQL to use instead of one of the bench's own."""
PART_ROWS: Final = 200_000
"""Rows that steps, stages and the row-at-a-time path are measured on."""
MEGABYTE: Final = 1024 * 1024
_PART: Final = "bench_part"
_LARGE: Final = "bench_large"

Measurement = Mapping[str, Any]
Say = Callable[[Text], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """How much is measured; 0 leaves a part out."""

    rows: int
    times: int = 1
    large: int = 0
    tables: int = 0
    rounds: int = 3
    kafka: bool = False
    in_python: int = 0
    """Runs of the whole job without the compiled kernel, each beside one with it."""
    entries: int = 100_000
    """Of the evidence log that is audited."""


def full_plan(rows: int) -> Workload:
    """Return the full set, for ``make bench``."""
    return Workload(
        rows,
        times=3,
        large=5 * rows,
        tables=200,
        rounds=5,
        kafka=True,
        in_python=3,
        entries=MILLION,
    )


def measure(plan: Workload, folder: Path, say: Say) -> Iterator[Measurement]:
    """Measure everything; ``folder`` is empty and takes nodes, files and logs meanwhile.

    Without a PostgreSQL only files are measured, and that is said.
    """
    here = asdict(machine())
    yield {"kind": "machine", "at": datetime.now(UTC).isoformat(timespec="seconds"), **here}
    yield {"kind": "help", "seconds": help_seconds()}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres(SERVER))
        except Missing as error:
            say(error.what)
            say(error.hint)
        else:
            yield from _with_postgres(plan, folder, server, say)
    say(
        Text(f"审计存证日志：{plan.entries:,} 条", f"auditing {plan.entries:,} entries of evidence")
    )
    for _ in range(plan.times):
        audit_cost = audited(folder / "evidence", plan.entries, datetime.now(UTC))
        yield {"kind": "audited", **asdict(audit_cost)}
    drop = folder / "drop"
    drop.mkdir()
    say(Text(f"生成 CSV：{plan.rows:,} 行", f"writing CSV: {plan.rows:,} rows"))
    write_csv(drop / "bench_person.csv", plan.rows)
    for number in range(plan.times):
        say(_running("CSV", number, plan.times))
        yield _run(folder, csv_feed(drop), None)


def _with_postgres(plan: Workload, folder: Path, server: Server, say: Say) -> Iterator[Measurement]:
    say(Text(f"装入 PostgreSQL：{plan.rows:,} 行", f"filling PostgreSQL: {plan.rows:,} rows"))
    load_postgres(server.url, plan.rows)
    _copy(server.url, _PART, min(plan.rows, PART_ROWS))
    for number in range(plan.times):
        say(_running("PostgreSQL", number, plan.times))
        yield _run(folder, table_feed(), server)
        if number < plan.in_python and chosen().hashing.name != "python":
            package = copy_without_kernel(folder / "in-python")
            yield {**_run(folder, table_feed(), server, package), "kind": "run in Python"}
            shutil.rmtree(package)
        if plan.kafka:
            yield {"kind": "run", **asdict(_emptied(folder, whole, server))}
        base = floor.run(server.url)
        yield {"kind": "floor", "rows": base.rows, "bytes": base.size, **asdict(base.usage)}
        yield _row_path(folder, server)
    if plan.kafka:
        for number in range(plan.times):
            say(_running("Kafka", number, plan.times))
            for workers in (1, 2):
                share = _emptied(folder, partial(shared, workers=workers), server)
                yield {"kind": "shared", **asdict(share)}
            publishing_result = _emptied(folder, publishing, server)
            yield {
                "kind": "published",
                "records": publishing_result.records,
                **asdict(publishing_result.usage),
            }
            yield {"kind": "rebalanced", **asdict(rebalance(folder))}
    say(Text("逐段测量", "measuring step by step"))
    yield from _stages(plan, folder, server)
    if plan.tables:
        say(Text(f"{plan.tables} 个表", f"{plan.tables} tables"))
        yield _run(folder, many_feed(server.url, plan.tables), server)
    if plan.large:
        say(Text(f"大表：{plan.large:,} 行", f"a large table: {plan.large:,} rows"))
        load_postgres(server.url, plan.large, table=_LARGE)
        yield _run(folder, table_feed(_LARGE), server)


def _running(source: str, number: int, times: int) -> Text:
    return Text(
        f"{source} → 回执，第 {number + 1}/{times} 次",
        f"{source} to receipts, {number + 1}/{times}",
    )


def _copy(conninfo: str, name: str, rows: int) -> None:
    target = sql.Identifier(name)
    with database(conninfo) as connection:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(target))
        connection.execute(
            sql.SQL("CREATE UNLOGGED TABLE {} AS SELECT * FROM {} LIMIT {}").format(
                target, sql.Identifier(RESOURCE), rows
            )
        )


_Measured = TypeVar("_Measured")


def _emptied(folder: Path, measured: Callable[..., _Measured], server: Server) -> _Measured:
    """Measure with a log on Kafka, in a folder that is empty again afterwards."""
    result = measured(folder / "node", table_feed(), conninfo=server.url)
    shutil.rmtree(folder / "node")
    return result


def _run(
    folder: Path, feed: Feed, server: Server | None, package: Path | None = None
) -> Measurement:
    place = folder / "node"
    conninfo, pid = ("", None) if server is None else (server.url, server.pid)
    result = run(place, feed, conninfo=conninfo, postgres=pid, package=package)
    shutil.rmtree(place)
    return {"kind": "run", **asdict(result)}


def _row_path(folder: Path, server: Server) -> Measurement:
    with _node(folder, server.url) as node:
        resource = node.context.resource(RESOURCE)
        result = rowpath.run(
            server.url,
            schema=avro_schema(resource),
            sign=node.seals.of(resource).signer.sign,
            today=datetime.now(UTC).date(),
            table=_PART,
        )
    shutil.rmtree(folder / "node")
    return {
        "kind": "row at a time",
        "rows": result.rows,
        "accepted": result.accepted,
        **asdict(result.usage),
    }


def _stages(plan: Workload, folder: Path, server: Server) -> Iterator[Measurement]:
    place = folder / "node"
    with _node(folder, server.url) as node, receiver(place):
        rows = min(plan.rows, PART_ROWS)
        for step in stage_cost.steps(node, RESOURCE, rows, place, rounds=plan.rounds):
            yield {"kind": "step", **asdict(step)}
        for stage, seconds in stage_cost.loading_times(node).items():
            yield {"kind": "stage", "name": stage, "micros": seconds * MILLION / rows, "rows": rows}
        yield {"kind": "packaged", **asdict(packaged(node, RESOURCE))}
    shutil.rmtree(place)


def _node(folder: Path, conninfo: str) -> Node:
    make_node(folder / "node", table_feed(_PART), port=free_port())
    settings = load_settings(folder / "node" / "exchange.yaml")
    return Node(settings, environ={URL: conninfo})


# --- what the figures are held against ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the summary; ``target`` is None where there is none to reach."""

    name: str
    text: Text
    value: float
    unit: str
    target: float | None = None
    at_most: bool = True
    least: float | None = None
    most: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the target is reached."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


def figures(measured: Sequence[Measurement]) -> list[Figure]:
    """Draw the summary from all measurements; what was not measured is left out."""
    return [*_of_runs(measured), *_of_cluster(measured), *_of_parts(measured)]


def _runs(measured: Sequence[Measurement], kind: str = "run") -> dict[str, list[Run]]:
    """Group the runs by what they read, whatever its size."""
    by_kind: dict[str, list[Run]] = {}
    for values in measured:
        if values["kind"] == kind:
            single_run = Run(**{name: value for name, value in values.items() if name != "kind"})
            by_kind.setdefault(single_run.source, []).append(single_run)
    return by_kind


def _of_runs(measured: Sequence[Measurement]) -> Iterator[Figure]:
    runs = _runs(measured)
    for source, all_runs in runs.items():
        least = min(item.rows for item in all_runs)
        usual = [item for item in all_runs if item.rows == least]
        if source.endswith(" tables"):
            yield Figure(
                source,
                Text(f"{source}，每表 {TABLE_ROWS} 行", f"{source} of {TABLE_ROWS} rows"),
                usual[0].wall,
                "s",
                60,
            )
            continue
        yield from _of_source(source, usual)
        yield Figure(
            f"{source}.rss",
            Text(f"{source}：节点内存峰值", f"{source}: the node's peak memory"),
            max(item.node_rss for item in all_runs) / MEGABYTE,
            "MB",
            512,
        )
    yield from _ratios(measured, runs)
    yield from _of_kernel(measured, runs)


_PROCESSES: Final[Sequence[tuple[str, Text, Callable[[Run], float]]]] = (
    ("node", Text("节点", "the node"), lambda item: item.per_million(item.node_cpu)),
    ("receiver", Text("接收端", "receiver"), lambda item: item.per_million(item.receiver_cpu)),
)


def _of_kernel(measured: Sequence[Measurement], runs: Mapping[str, list[Run]]) -> Iterator[Figure]:
    """Compare each run that hashes in Python with the run before it, which has the kernel."""
    for source, in_python in _runs(measured, "run in Python").items():
        pairs = list(zip(runs[source], in_python, strict=False))
        for name, text, cpu in _PROCESSES:
            samples = [cpu(other) for _, other in pairs]
            yield Figure(
                f"{source}.in_python.{name}",
                Text(
                    f"{source}：{text.zh}，Python 杂凑", f"{source}: {text.en}, hashing in Python"
                ),
                median(samples),
                "CPU s / 1,000,000",
                least=min(samples),
                most=max(samples),
            )
            ratios = [cpu(compiled) / cpu(other) for compiled, other in pairs]
            yield Figure(
                f"{source}.kernel.{name}",
                Text(
                    f"{source}：{text.zh}，编译 ÷ Python", f"{source}: {text.en}, compiled ÷ Python"
                ),
                median(ratios),
                "×",
                least=min(ratios),
                most=max(ratios),
            )


def _of_source(source: str, runs: Sequence[Run]) -> Iterator[Figure]:
    def figure(name: str, text: Text, unit: str, of: Callable[[Run], float], **more: Any) -> Figure:
        values = [of(item) for item in runs]
        return Figure(
            f"{source}.{name}",
            Text(f"{source}：{text.zh}", f"{source}: {text.en}"),
            median(values),
            unit,
            least=min(values),
            most=max(values),
            **more,
        )

    per_million = "CPU s / 1,000,000"
    # On fewer rows the start of the processes is most of what is measured.
    judged = runs[0].rows >= MILLION
    yield figure(
        "node",
        Text("节点", "the node"),
        per_million,
        lambda item: item.per_million(item.node_cpu),
        target=6.5 if judged and source == "postgresql" else None,
    )
    yield figure(
        "receiver",
        Text("接收端", "the receiver"),
        per_million,
        lambda item: item.per_million(item.receiver_cpu),
        target=6 if judged else None,
    )
    if all(item.postgres_cpu is not None for item in runs):
        yield figure(
            "server",
            Text("数据库", "PostgreSQL"),
            per_million,
            lambda item: item.per_million(item.postgres_cpu or 0),
        )
    yield figure(
        "rate",
        Text("从启动到全部回执", "from start to the last receipt"),
        "rows/s",
        lambda item: item.rate,
        target=100_000 if judged and source == "postgresql" else None,
        at_most=False,
    )
    yield figure(
        "receiver_rss",
        Text("接收端内存峰值", "the receiver's peak memory"),
        "MB",
        lambda item: item.receiver_rss / MEGABYTE,
    )
    yield figure(
        "wire",
        Text("上行字节", "on the wire"),
        "B/row",
        lambda item: item.wire / max(item.accepted, 1),
    )


def _ratios(measured: Sequence[Measurement], runs: Mapping[str, list[Run]]) -> Iterator[Figure]:
    """Compare with the floor and with the row-at-a-time path of the same run."""
    node_costs = [item.per_million(item.node_cpu) for item in runs.get("postgresql", ())]
    judged = all(item.rows >= MILLION for item in runs.get("postgresql", ()))
    for kind, name, text, target in (
        ("floor", "floor", Text("COPY 不解析（下限）", "COPY, unparsed: the floor"), None),
        ("row at a time", "row_path", Text("逐行处理", "row at a time"), 7),
    ):
        row_costs = [
            values["cpu"] * MILLION / values["rows"]
            for values in measured
            if values["kind"] == kind
        ]
        if not row_costs or not node_costs:
            continue
        cpu = median(row_costs)
        yield Figure(
            name, text, cpu, "CPU s / 1,000,000", least=min(row_costs), most=max(row_costs)
        )
        if target is not None:
            yield Figure(
                f"{name}.ratio",
                Text("逐行处理 ÷ 节点", "row at a time ÷ the node"),
                cpu / median(node_costs),
                "×",
                target if judged else None,
                at_most=False,
            )


def _of_cluster(measured: Sequence[Measurement]) -> Iterator[Figure]:
    """Hold the log on Kafka against the embedded one, and several workers against one."""
    runs = _runs(measured)
    by_kind: dict[str, list[Measurement]] = {}
    for values in measured:
        by_kind.setdefault(values["kind"], []).append(values)

    def figure(
        name: str, text: Text, unit: str, samples: Sequence[float], target: float, *, at_most: bool
    ) -> Figure:
        return Figure(
            name,
            text,
            median(samples),
            unit,
            target,
            at_most,
            least=min(samples),
            most=max(samples),
        )

    if "kafka" in runs:
        embedded = [item.rate for item in runs["postgresql"] if item.rows == runs["kafka"][0].rows]
        rates = [there.rate / here for there, here in zip(runs["kafka"], embedded, strict=True)]
        yield figure(
            "kafka.ratio",
            Text("Kafka ÷ 内置日志，行/秒", "Kafka ÷ the embedded log, rows/s"),
            "×",
            rates,
            0.7,
            at_most=False,
        )
    if shares := by_kind.get("shared"):
        of_one, of_two = (
            [values for values in shares if values["workers"] == count] for count in (1, 2)
        )
        for count, runs_of_count in ((1, of_one), (2, of_two)):
            yield Figure(
                f"workers.{count}.rate",
                Text(f"{count} 个工作者，核验至回执", f"{count} worker(s), checks to receipts"),
                median(values["rows"] / values["wall"] for values in runs_of_count),
                "rows/s",
            )
            yield Figure(
                f"workers.{count}.cpu",
                Text(f"{count} 个工作者的 CPU", f"CPU of {count} worker(s)"),
                median(values["cpu"] * MILLION / values["rows"] for values in runs_of_count),
                "CPU s / 1,000,000",
            )
        yield figure(
            "workers.ratio",
            Text("两个工作者 ÷ 一个", "two workers ÷ one"),
            "×",
            [a["wall"] / b["wall"] for a, b in zip(of_one, of_two, strict=True)],
            1.6,
            at_most=False,
        )
        yield figure(
            "workers.rss",
            Text("工作者内存峰值", "a worker's peak memory"),
            "MB",
            [values["rss"] / MEGABYTE for values in shares],
            512,
            at_most=True,
        )
    if published := by_kind.get("published"):
        yield figure(
            "published",
            Text("逐条发布", "published record by record"),
            "records/s",
            [values["records"] / values["wall"] for values in published],
            40_000,
            at_most=False,
        )
    if times := by_kind.get("rebalanced"):
        yield figure(
            "rebalanced",
            Text(
                "64 个分区、8 个工作者，终止其一后接管",
                "64 partitions, 8 workers, one killed: taken over",
            ),
            "s",
            [values["seconds"] for values in times],
            10,
            at_most=True,
        )


_LIMITS: Final[Mapping[str, float]] = {"validate": 1.3, "encode": 2.0}


def _of_parts(measured: Sequence[Measurement]) -> Iterator[Figure]:
    parts = {values["name"]: values for values in measured if values["kind"] == "step"}
    for name, values in parts.items():
        text = Text(f"步骤：{name}", f"step: {name}")
        least, most = values["spread"]
        yield Figure(
            f"step.{name}",
            text,
            values["micros"],
            "µs/row",
            _LIMITS.get(name),
            least=least,
            most=most,
        )
    for values in measured:
        if values["kind"] == "stage":
            text = Text(f"环节：{values['name']}", f"stage: {values['name']}")
            yield Figure(f"stage.{values['name']}", text, values["micros"], "µs/row")
        elif values["kind"] == "help":
            text = Text("exchange --help", "exchange --help")
            yield Figure("help", text, values["seconds"] * 1000, "ms", 300)
    if audits := [values for values in measured if values["kind"] == "audited"]:
        seconds = [values["seconds"] for values in audits]
        entries = audits[0]["entries"]
        yield Figure(
            "audit",
            Text(f"审计 {entries:,} 条存证", f"audit of {entries:,} entries of evidence"),
            median(seconds),
            "s",
            30,
            least=min(seconds),
            most=max(seconds),
        )
    for values in measured:
        if values["kind"] == "packaged":
            for name, text in (
                (
                    "bare",
                    Text(
                        "存证包，不计证书、印章、记录",
                        "a package less certificates, seals, record",
                    ),
                ),
                ("whole", Text("存证包文件", "an evidence package")),
            ):
                limit = 4096 if name == "bare" else None
                yield Figure(f"package.{name}", text, values[name], "B", limit)
    if "tree" in parts:
        tree_micros = parts["leaves"]["micros"] + parts["tree"]["micros"]
        yield Figure(
            "hash", Text("叶 + 树（SM3）", "leaves + tree (SM3)"), tree_micros, "µs/row", 3
        )
        in_python = sum(
            parts[f"{name}{stage_cost.IN_PYTHON}"]["micros"] for name in ("leaves", "tree")
        )
        yield Figure(
            "hash.ratio",
            Text("叶 + 树，编译 ÷ Python", "leaves + tree, compiled ÷ Python"),
            tree_micros / in_python,
            "×",
        )
        rate = MILLION / parts["verify"]["micros"]
        yield Figure("verify", Text("验证", "verify"), rate, "rows/s", 150_000, at_most=False)
