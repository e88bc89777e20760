"""Commands on a whole node: init, run, status, release, gateway."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from exchange import settings as settings_room
from exchange.cli.talk import Progress, Talk
from exchange.errors import ExchangeError, Misconfigured
from exchange.node import Node, utc_now
from exchange.text import Text


def open_node() -> Node:
    """Open the node whose settings are named or found from the current folder."""
    return Node(settings_room.load(settings_room.find(Path.cwd())))


def init(talk: Talk, folder: Path, *, port: int, suite: str) -> int:
    """Make a new node."""
    from exchange.newnode import new_node

    new_node(
        folder,
        now=utc_now(),
        entropy=secrets.token_bytes,
        port=port,
        suite_id=suite,
    )
    talk.say(
        talk.t(
            f"节点已建好：{folder}\n"
            "  exchange.yaml   配置：在 sources 下登记数据源\n"
            "  catalog.yaml    目录：登记资源与数据项\n"
            "  seals/          测试印章（软件密钥，仅供试用）\n"
            "  province/       模拟省级平台\n"
            f"下一步：cd {folder}；exchange gateway --config province/exchange.yaml &；"
            "exchange doctor",
            f"the node is ready: {folder}\n"
            "  exchange.yaml   settings: name your sources there\n"
            "  catalog.yaml    the catalog: resources and their fields\n"
            "  seals/          test seals (software keys, for trying only)\n"
            "  province/       a test province\n"
            f"next: cd {folder}; exchange gateway --config province/exchange.yaml &; "
            "exchange doctor",
        )
    )
    return 0


def run(talk: Talk, sources: Sequence[str] | None, *, once: bool, only: str | None) -> int:
    """Run the doors once, or by schedule until SIGTERM or SIGINT."""
    from exchange.runner import ROOMS, Runner

    if only is not None and only not in ROOMS:
        raise Misconfigured(
            Text(f"没有名为 {only} 的环节", f"there is no room {only}"),
            hint=Text(f"可用：{', '.join(ROOMS)}", f"one of: {', '.join(ROOMS)}"),
        )
    with open_node() as node:
        warn_software_keys(talk, node)
        node.take_up_catalog()
        progress = Progress(talk, talk.t("拉取", "pulled"))

        def said(what: str, count: int) -> None:
            progress.add(count if what == "pulled" else 0)

        runner = Runner(node, said, rooms=ROOMS if only is None else (only,))
        if not once:
            return _supervise(talk, runner)
        outcome = runner.once(sources)
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


def counts(outcome: Any) -> dict[str, int]:
    """Return the numbers of a run, in the order of the flow."""
    names = (
        "pulled",
        "accepted",
        "quarantined",
        "notes",
        "batches",
        "receipts",
        "refused",
        "waiting",
    )
    return {name: getattr(outcome, name) for name in names}


def label(talk: Talk, name: str) -> str:
    """Name a number for a person."""
    chinese = {
        "pulled": "拉取记录",
        "accepted": "合格并封签",
        "quarantined": "隔离",
        "notes": "不是记录的行（标题、分组）",
        "batches": "封签批次",
        "receipts": "回执",
        "refused": "省级退回",
        "waiting": "待投递批次",
    }
    english = {
        "pulled": "records pulled",
        "accepted": "accepted and sealed",
        "quarantined": "quarantined",
        "notes": "rows that are no records",
        "batches": "batches sealed",
        "receipts": "receipts",
        "refused": "refused by the province",
        "waiting": "batches waiting",
    }
    return talk.t(chinese[name], english[name])


def _told(error: ExchangeError) -> Mapping[str, Any]:
    return {"error": type(error).__name__, "what": error.what._asdict()}


def _supervise(talk: Talk, runner: Any) -> int:
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        talk.say(talk.t("正在停止：完成手头的工作", "stopping: finishing what is under way"))
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)

    def report(name: str, error: ExchangeError) -> None:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"at": moment, "subject": name, **_told(error)}
        sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stderr.flush()

    talk.say(talk.t("运行中；Ctrl-C 或 SIGTERM 停止", "running; Ctrl-C or SIGTERM stops it"))
    runner.forever(stop, report)
    talk.say(talk.t("已停止", "stopped"))
    return 0


def warn_software_keys(talk: Talk, node: Node) -> None:
    """Warn loudly when a production node seals with a key kept in software."""
    from exchange.seal.signers import SOFTWARE_KEY_WARNING

    if node.settings.production:
        for name, seal in node.settings.seals.items():
            if node.open_seal(seal).signer.software:
                talk.say(f"!!! {name}: {talk.text(SOFTWARE_KEY_WARNING)}")


def status(talk: Talk) -> int:
    """Show each resource: what came in, went out, waits or is halted."""
    with open_node() as node:
        rows = _status(node)
    talk.answer({"resources": rows})
    heads = [
        talk.t("资源", "resource"),
        talk.t("未检", "unchecked"),
        talk.t("隔离", "quarantine"),
        talk.t("批次", "batches"),
        talk.t("回执", "receipts"),
        talk.t("待投递", "waiting"),
        talk.t("退回", "refused"),
        talk.t("停止原因", "halted"),
        talk.t("最近拉取", "last pull"),
    ]
    body = [
        (
            row["resource"],
            row["unchecked"],
            row["quarantine"],
            row["batches"],
            row["receipts"],
            row["waiting"],
            row["refused"],
            "" if row["halted"] is None else row["halted"][talk.lang],
            row["last_pull"],
        )
        for row in rows
    ]
    talk.table(talk.t("节点状态", "status"), heads, body)
    return 0


def _status(node: Node) -> list[dict[str, Any]]:
    from exchange.cascade.delivery import State
    from exchange.lane import lane_key
    from exchange.log import raw_topic

    deliveries: dict[str, dict[State, int]] = {}
    for (name, state), count in node.store.deliveries.counts().items():
        deliveries.setdefault(name, {})[State(state)] = count
    refused = node.store.quarantine.counts()
    last: dict[str, datetime | None] = {}
    for pull in node.store.pulls.find():
        last.setdefault(pull.resource, pull.ended_at)
    rows = []
    for resource in node.resources():
        node.house.ensure(resource)
        states = deliveries.get(resource, {})
        count, replayed, dismissed = refused.get(resource, (0, 0, 0))
        topic = raw_topic(resource)
        halted = node.house.state(lane_key(resource, 0)).get("halted")
        if halted is None and states.get(State.HALTED):
            halted = Text("回执不成立", "wrong receipt")._asdict()
        ended = last.get(resource)
        receipts, returned = states.get(State.RECEIPTED, 0), states.get(State.REFUSED, 0)
        rows.append(
            {
                "resource": resource,
                "unchecked": node.log.bounds(topic, 0)[1] - node.log.position("seal", topic, 0),
                "quarantine": count - replayed - dismissed,
                "batches": sum(states.values()),
                "receipts": receipts,
                "waiting": sum(states.values()) - receipts - returned,
                "refused": returned,
                "halted": halted,
                "last_pull": ended.isoformat(timespec="seconds") if ended is not None else None,
            }
        )
    return rows


def migrate(talk: Talk) -> int:
    """Bring the schema of the store up to date."""
    from exchange.store.database import HEAD, open_store

    settings = settings_room.load(settings_room.find(Path.cwd()))
    open_store(settings.url(settings.store), clock=utc_now, migrate=True).close()
    talk.say(talk.t(f"存储结构为最新版本 {HEAD}", f"the store's schema is up to date: {HEAD}"))
    return 0


def release(talk: Talk, resource: str) -> int:
    """Let a halted resource go on."""
    from exchange.cli.person import actor
    from exchange.pipeline import release as let_go

    with open_node() as node:
        node.house.resource(resource)
        if let_go(node.house, resource):
            node.store.audit.append(actor(), "lane.release", resource)
            talk.say(talk.t(f"{resource} 已恢复", f"{resource} goes on with the next run"))
        else:
            talk.say(talk.t(f"{resource} 并未停止", f"{resource} is not halted"))
    return 0


def gateway(talk: Talk) -> int:
    """Serve the province's side until SIGTERM or SIGINT."""
    from exchange.gateway.serve import run_gateway

    settings = settings_room.load(settings_room.find(Path.cwd()))
    given = gateway_settings(settings)
    assert settings.gateway is not None  # noqa: S101 - gateway_settings refuses without

    def announce(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    with Node(settings) as node:
        talk.say(talk.t("省级网关已启动；Ctrl-C 停止", "the gateway runs; Ctrl-C stops it"))
        run_gateway(
            given,
            sealer=node.open_seal(settings.gateway.seal),
            clock=node.clock,
            entropy=node.entropy,
            announce=announce,
        )
    return 0


def gateway_settings(settings: Any, *, port: int | None = None) -> Any:
    """Resolve the ``gateway`` section: read its secrets and certificates."""
    from exchange.gateway.settings import GatewaySettings, Tls

    section = settings.gateway
    if section is None:
        raise Misconfigured(
            Text("配置中没有 gateway 一节", "the settings have no section gateway:"),
            hint=Text(
                "用 --config province/exchange.yaml 指定省级一侧的配置",
                "name the province's settings: --config province/exchange.yaml",
            ),
        )
    tls = None
    if section.certificate is not None and section.key is not None:
        tls = Tls(settings.resolve(section.certificate), settings.resolve(section.key))
    return GatewaySettings(
        folder=settings.resolve(section.folder),
        store=settings.url(section.store),
        clients={client.rid: settings.secret(client.secret) for client in section.clients},
        sid=section.sid,
        path=section.path,
        anchors=Node(settings).anchors(section.trust),
        province=section.province,
        window=section.clock_skew,
        host=section.host,
        port=section.port if port is None else port,
        tls=tls,
    )
