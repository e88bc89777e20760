"""Commands on a whole node: init, migrate, release, gateway."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

from exchange import settings as settings_room
from exchange.cli.output import Talk
from exchange.errors import Misconfigured
from exchange.node.node import Node, utc_now
from exchange.text import Text


def open_node(worker: str = "") -> Node:
    """Open the node whose settings are named or found from the current folder."""
    return Node(settings_room.load(settings_room.find(Path.cwd())), worker=worker)


def init(talk: Talk, folder: Path, *, port: int, suite: str) -> int:
    """Make a new node."""
    from exchange.node.scaffold import new_node

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


def warn_software_keys(talk: Talk, node: Node) -> None:
    """Warn loudly when a production node seals with a key kept in software."""
    from exchange.seal.pki.signers import SOFTWARE_KEY_WARNING

    if node.settings.production:
        for name, seal in node.settings.seals.items():
            if node.open_seal(seal).signer.software:
                talk.say(f"!!! {name}: {talk.text(SOFTWARE_KEY_WARNING)}")


def migrate(talk: Talk) -> int:
    """Bring the schema of the store up to date."""
    from exchange.store.database import HEAD, open_store

    settings = settings_room.load(settings_room.find(Path.cwd()))
    open_store(settings.url(settings.store), clock=utc_now, migrate=True).close()
    talk.say(talk.t(f"存储结构为最新版本 {HEAD}", f"the store's schema is up to date: {HEAD}"))
    return 0


def release(talk: Talk, resource: str) -> int:
    """Let a halted resource go on."""
    from exchange.cli.actor import actor
    from exchange.pipeline.seal import release as let_go

    with open_node() as node:
        node.context.resource(resource)
        if let_go(node.context, resource):
            node.store.audit.append(actor(), "partition.release", resource)
            talk.say(talk.t(f"{resource} 已恢复", f"{resource} goes on with the next run"))
        else:
            talk.say(talk.t(f"{resource} 并未停止", f"{resource} is not halted"))
    return 0


def gateway(talk: Talk) -> int:
    """Serve the province's side until SIGTERM or SIGINT."""
    from exchange.receiver.serve import run_gateway

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
    from exchange.receiver.options import GatewaySettings, Tls

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
        witness=section.witness,
        witness_name=section.witness_name,
        anchors=Node(settings).anchors(section.trust),
        province=section.province,
        window=section.clock_skew,
        host=section.host,
        port=section.port if port is None else port,
        tls=tls,
    )
