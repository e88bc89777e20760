"""The command ``publish``: records on a topic for programs outside."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from exchange.cli.node import open_node
from exchange.cli.output import Progress, Talk
from exchange.cli.run import Stop
from exchange.errors import ExchangeError, Misconfigured
from exchange.log import records_topic
from exchange.node.node import Node
from exchange.publish.publisher import Publisher
from exchange.publish.registry import Registry, connect
from exchange.publish.stage import PublishStage, check_readable
from exchange.text import Text


def publish(talk: Talk, resources: Sequence[str], *, once: bool) -> int:
    """Publish the records of resources, what is there or until SIGTERM or SIGINT."""
    with open_node() as node, opened(node, list(dict.fromkeys(resources))) as stages:
        progress, counts = Progress(talk, talk.t("发布", "published")), Counter(stages.keys())
        counts.subtract(stages.keys())

        def said(resource: str, records: int) -> None:
            counts[resource] += records
            progress.add(records)

        publisher = Publisher(stages, said)
        if not once:
            return _supervise(talk, publisher)
        outcome = publisher.once()
        progress.end()
        talk.answer(
            {"published": counts, "errors": {k: told(e) for k, e in outcome.errors.items()}}
        )
        talk.table(
            talk.t("本次发布", "published"),
            [talk.t("资源", "resource"), talk.t("主题", "topic"), talk.t("记录", "records")],
            [(name, records_topic(name), f"{count:,}") for name, count in counts.items()],
        )
        for name, stage in stages.items():
            if stage.foreign:
                talk.say(
                    talk.t(
                        f"{name}：跳过 {stage.foreign} 条外来消息（非封签批次）",
                        f"{name}: passed over {stage.foreign} messages that are no batches of ours",
                    )
                )
        for name, error in outcome.errors.items():
            talk.say(f"— {name}")
            talk.error(error)
        worst = outcome.error()
        return worst.exit_code if worst is not None else 0


@contextmanager
def opened(node: Node, resources: Sequence[str]) -> Iterator[dict[str, PublishStage]]:
    """Open the doors of resources; raises Misconfigured for what may not be published."""
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
    found = [node.context.resource(name) for name in resources]
    for resource in found:
        check_readable(resource, settings.registry.readable)
    with ExitStack() as stack:
        registry: Registry = stack.enter_context(
            connect(settings, settings.registry, environ=node.environ, monotonic=time.monotonic)
        )
        stages: dict[str, PublishStage] = {}
        for resource in found:
            stage = PublishStage(node.context, resource, registry)
            stack.callback(stage.close)
            stages[resource.name] = stage
        yield stages


def told(error: ExchangeError) -> dict[str, object]:
    """Return an error for a program."""
    return {"error": type(error).__name__, "what": error.what._asdict()}


def _supervise(talk: Talk, publisher: Publisher) -> int:
    stop = Stop()
    stop.on_signals(lambda zh, en: talk.say(talk.t(zh, en)))

    def report(name: str, error: ExchangeError) -> None:
        sys.stderr.write(json.dumps({"subject": name, **told(error)}, ensure_ascii=False) + "\n")
        sys.stderr.flush()

    talk.say(talk.t("发布中；Ctrl-C 或 SIGTERM 停止", "publishing; Ctrl-C or SIGTERM stops it"))
    publisher.forever(stop, report, time.monotonic)
    return 0
