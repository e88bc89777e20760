"""The command ``publish``: records on a topic for programs outside."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import Output, Progress
from exchange.errors import ExchangeError, Misconfigured
from exchange.run.outcome import Where
from exchange.text import Text

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.publish.publisher import Publisher
    from exchange.publish.stage import PublishStage

app = alone()


@app.command(
    help=bilingual(
        "把资源的合格记录逐条发布到 Kafka 主题，供外部程序读取（Confluent 格式）",
        "put accepted records on a topic, one by one, for programs outside (Confluent format)",
    )
)
def publish(
    context: typer.Context,
    resources: Annotated[list[str], typer.Argument(help=bilingual("资源", "resources"))],
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help=bilingual("发布现有的记录后退出", "what is there, then exit")),
    ] = False,
    as_json: Json = False,
) -> int:
    """Publish the records of resources, what is there or until SIGTERM or SIGINT."""
    from exchange.log import records_topic
    from exchange.publish.publisher import Publisher

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    with call.open_node() as node, open_stages(node, list(dict.fromkeys(resources))) as stages:
        progress, counts = Progress(output, output.t("发布", "published")), Counter(stages.keys())
        counts.subtract(stages.keys())

        def count(resource: str, records: int) -> None:
            counts[resource] += records
            progress.add(records)

        publisher = Publisher(stages, count)
        if not once:
            return _supervise(output, publisher)
        outcome = publisher.once()
        progress.end()
        output.answer(
            {"published": counts, "errors": {str(k): facts(e) for k, e in outcome.errors.items()}}
        )
        output.table(
            output.t("本次发布", "published"),
            [output.t("资源", "resource"), output.t("主题", "topic"), output.t("记录", "records")],
            [(name, records_topic(name), f"{number:,}") for name, number in counts.items()],
        )
        for name, stage in stages.items():
            if stage.foreign:
                output.inform(
                    f"{name}：跳过 {stage.foreign} 条外来消息（非封签批次）",
                    f"{name}: passed over {stage.foreign} messages that are no batches of ours",
                )
        for where, error in outcome.errors.items():
            output.inform(f"— {where}")
            output.error(error)
        worst = outcome.error()
        return worst.exit_code if worst is not None else 0


@contextmanager
def open_stages(node: Node, resources: Sequence[str]) -> Iterator[dict[str, PublishStage]]:
    """Open the stage of each resource; raises Misconfigured for what may not be published."""
    from exchange.publish.registry import Registry, connect
    from exchange.publish.stage import PublishStage, check_readable

    settings = node.settings
    if settings.log.driver != "kafka":
        raise Misconfigured(
            Text("发布需要 Kafka：内置日志没有外部读者", "publishing needs a log on Kafka"),
            hint=Text(
                "设置 log.driver: kafka 与 log.kafka.bootstrap",
                "set log.driver: kafka and log.kafka.bootstrap: nobody outside reads the other one",
            ),
        )
    if settings.registry is None:
        raise Misconfigured(
            Text("没有配置模式注册中心", "no schema registry is configured"),
            hint=Text("在 exchange.yaml 中填写 registry", "fill in registry: in exchange.yaml"),
        )
    contracts = [node.catalog.resource(name) for name in resources]
    for resource in contracts:
        check_readable(resource, settings.registry.readable)
    with ExitStack() as stack:
        registry: Registry = stack.enter_context(
            connect(settings, settings.registry, environ=node.environ, monotonic=time.monotonic)
        )
        stages: dict[str, PublishStage] = {}
        for resource in contracts:
            stage = PublishStage(node.context, resource, registry)
            stack.callback(stage.close)
            stages[resource.name] = stage
        yield stages


def facts(error: ExchangeError) -> dict[str, object]:
    """Return an error as JSON values."""
    return {"error": type(error).__name__, "what": error.what._asdict()}


def _supervise(output: Output, publisher: Publisher) -> int:
    from exchange.cli.stop import Stop

    stop = Stop()
    stop.on_signals(output.inform)

    def report(where: Where, error: ExchangeError) -> None:
        sys.stderr.write(
            json.dumps({"subject": str(where), **facts(error)}, ensure_ascii=False) + "\n"
        )
        sys.stderr.flush()

    output.inform("发布中；Ctrl-C 或 SIGTERM 停止", "publishing; Ctrl-C or SIGTERM stops it")
    publisher.forever(stop, report, time.monotonic)
    return 0
