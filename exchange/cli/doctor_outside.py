"""What `doctor` looks at outside this machine: the province, its witness, time stamps."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exchange.cli.diagnostics import NO_HINT, Diagnostic, Grade, probe
from exchange.errors import Misconfigured, Transient
from exchange.foreign import os_reason
from exchange.text import Text, with_beijing

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.node.node import Node
    from exchange.settings import Settings, Timeouts, TsaSettings


CLOCK_WARN, CLOCK_FAIL = timedelta(seconds=30), timedelta(minutes=10)
"""Clocks so far apart make batches wait (425), or every request be refused (401)."""


def examine_upstream(node: Node) -> Iterator[Diagnostic]:
    """Look whether the province answers, at its clock, and at what its witness has seen."""
    upstream = probe("upstream", partial(reach_upstream, node))
    yield upstream
    section = node.settings.upstream
    if upstream.grade is Grade.FAIL or section is None:
        return
    yield probe("clocks", partial(compare_clocks, node))
    if section.witness:
        yield probe("witness", partial(ask_witness, node))


def compare_clocks(node: Node) -> Text | Diagnostic:
    """Compare the province's clock with ours."""
    ahead = node.upstream.clock_ahead()
    if ahead is None:
        return Text("上级没有给出时间", "the province does not tell its time")
    return judge_clocks(ahead)


def judge_clocks(ahead: timedelta) -> Diagnostic:
    """Judge how far the province's clock is ahead of ours."""
    seconds = round(ahead.total_seconds())
    text = Text(
        f"上级时钟比本机快 {seconds} 秒", f"the province's clock is {seconds} s ahead of ours"
    )
    if seconds < 0:
        text = Text(
            f"上级时钟比本机慢 {-seconds} 秒", f"the province's clock is {-seconds} s behind ours"
        )
    hint = Text(
        "用 NTP 校准本机时钟；相差过多时上级拒绝请求（401），或推迟接收未来的批次（425）",
        "set this clock by NTP: too far apart the province denies requests (401), or puts off"
        " batches of the future (425)",
    )
    if abs(ahead) >= CLOCK_FAIL:
        return Diagnostic("clocks", Grade.FAIL, text, hint, Misconfigured.exit_code)
    grade = Grade.WARN if abs(ahead) >= CLOCK_WARN else Grade.OK
    return Diagnostic("clocks", grade, text, hint if grade is Grade.WARN else NO_HINT)


def reach_upstream(node: Node) -> Text | Diagnostic:
    """Open a connection, and with https a session; nothing is sent."""
    upstream = node.settings.upstream
    if upstream is None:
        text = Text("没有配置上级平台", "no upstream is configured")
        return Diagnostic("upstream", Grade.WARN, text, Text("填写 upstream", "fill in upstream:"))
    node.upstream.sender()
    ca = node.settings.resolve(upstream.ca) if upstream.ca else None
    return _answers(upstream.endpoint, upstream.timeouts, ca, "upstream.ca")


def reach_tsa(settings: Settings, tsa: TsaSettings) -> Text:
    """Open a connection; no stamp is asked for."""
    ca = settings.resolve(tsa.ca) if tsa.ca else None
    return _answers(tsa.url, tsa.timeouts, ca, "tsa.ca")


def _answers(url: str, timeouts: Timeouts, ca: Path | None, setting: str) -> Text:
    """Open a connection, and with https a session; raises Misconfigured, Transient."""
    address = urlsplit(url)
    host, secure = address.hostname or "", address.scheme == "https"
    port = address.port or (443 if secure else 80)
    try:
        with socket.create_connection((host, port), timeout=timeouts.connect) as plain:
            if secure:
                context = ssl.create_default_context(cafile=str(ca) if ca else None)
                with context.wrap_socket(plain, server_hostname=host):
                    pass
    except ssl.SSLCertVerificationError as error:
        raise Misconfigured(
            Text(
                f"{host}:{port} 的证书不可信：{os_reason(error).zh}",
                f"the certificate of {host}:{port}: {os_reason(error).en}",
            ),
            hint=Text(f"在 {setting} 中登记其签发机构", f"name its authority in {setting}"),
        ) from error
    except OSError as error:
        why = os_reason(error)
        raise Transient(
            Text(f"连不上 {host}:{port}：{why.zh}", f"cannot reach {host}:{port}: {why.en}"),
            hint=Text("请检查地址、网络和防火墙", "check the address, the network and firewalls"),
        ) from error
    return Text(f"{host}:{port} 可以连接", f"{host}:{port} answers")


def examine_evidence(node: Node) -> Text | Diagnostic:
    """Tell how long the evidence log is, and how much of it the province has signed along."""
    from exchange.evidence.log import LogReader

    folder = node.settings.resolve(node.settings.evidence.folder)
    if not folder.exists():
        return Text("存证日志尚未建立", "the evidence log has not begun")
    log = LogReader.at(folder)
    note = log.witnessed()
    seen = 0 if note is None else note.checkpoint.head.size
    text = Text(
        f"{log.origin}：{log.size} 条，已见证 {seen} 条",
        f"{log.origin}: {log.size} entries, {seen} of them witnessed",
    )
    upstream = node.settings.upstream
    if seen or not log.size or upstream is None or upstream.witness is None:
        return text
    hint = Text(
        "没有见证，删改就只有自己知道：核对上级的见证服务",
        "what nobody outside has seen can be cut quietly: see to the province's witness",
    )
    return Diagnostic("evidence", Grade.WARN, text, hint)


def ask_witness(node: Node) -> Text:
    """Compare the own evidence log with what the witness has seen of it.

    Raises Integrity where the own log is shorter, or another one.
    """
    from exchange.evidence.log import LogReader
    from exchange.evidence.tiles import EMPTY
    from exchange.node.witness_check import contradiction

    seen = node.upstream.seen_by_witness(node.origin)
    if seen is None:
        return Text("上级尚未见过本节点的存证日志", "the province has not seen our log yet")
    folder = node.settings.resolve(node.settings.evidence.folder)
    log = LogReader.at(folder) if folder.exists() else None
    size = 0 if log is None else log.size
    empty = bytes.fromhex(EMPTY)
    wrong = contradiction(seen.head, size, (lambda _size: empty) if log is None else log.root_of)
    if wrong is not None:
        raise wrong
    at = with_beijing(str(seen.at))
    return Text(
        f"上级见过 {seen.head.size} 条（{at}），与本地一致，本地 {size} 条",
        f"it has seen {seen.head.size} entries ({at}), ours begin with them; ours are {size}",
    )
