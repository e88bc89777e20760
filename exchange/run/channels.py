"""The ways a notice goes: mail over TLS, and the robots of the usual work chats (webhooks).

In: a notice as text. Out: nothing, or an error that names the channel, never an address with its
secret: the address of a robot is one. Payloads follow the published interfaces of the robots of
企业微信 (WeCom), 钉钉 (DingTalk) and 飞书 (Feishu).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import ssl
from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.http.message import Request
from exchange.http.transport import Advice, Transport
from exchange.settings import ChatSettings, MailSettings, Timeouts
from exchange.text import Text

_MAX_BYTES = 1_800
"""Bytes of a text: a robot of 企业微信 takes 2,048."""
_TIMEOUTS = Timeouts(connect=5, read=10, total=20)
_ANSWER = 64 * 1024
_SETTINGS = Text("请检查 notify 中该渠道的配置", "look at the settings of this channel in `notify`")
_ADVICE: Final = Advice(
    unsafe=Text("请使用 https 地址", "use an https address"),
    foreign=_SETTINGS,
    connect=Text("请检查地址、证书和线路", "look at the address, its certificate and the line"),
    interrupted=Text("稍后自动重发", "it is sent again by itself"),
    oversized=_SETTINGS,
)


def send_mail(
    settings: MailSettings, text: str, *, secret: Callable[[str], str], base: Path
) -> None:
    """Send a text by mail; its first line is the subject.

    Raises Transient when the server is away, Denied for a user that it refuses, Misconfigured for
    a certificate or an address.
    """
    message = EmailMessage()
    message["Subject"] = text.partition("\n")[0]
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message.set_content(text)
    try:
        context = ssl.create_default_context(
            cafile=None if settings.ca is None else str(base / settings.ca)
        )
        host, port = settings.host, settings.port
        tls = settings.security == "tls"
        server: smtplib.SMTP
        with (
            smtplib.SMTP_SSL(host, port, timeout=_TIMEOUTS.total, context=context)
            if tls
            else smtplib.SMTP(host, port, timeout=_TIMEOUTS.total)
        ) as server:
            if settings.security == "starttls":
                server.starttls(context=context)
            if settings.user is not None and settings.password is not None:
                server.login(settings.user, secret(settings.password))
            server.send_message(message)
    except smtplib.SMTPAuthenticationError as error:
        raise Denied(
            Text("邮件服务器拒绝登录", "the mail server refuses the user"), hint=_SETTINGS
        ) from error
    except (ssl.SSLCertVerificationError, smtplib.SMTPNotSupportedError) as error:
        raise Misconfigured(
            Text(
                f"不能安全连接邮件服务器 {host}：{type(error).__name__}",
                f"cannot talk to the mail server {host} safely: {type(error).__name__}",
            ),
            hint=_SETTINGS,
        ) from error
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
        raise Misconfigured(
            Text("邮件服务器拒绝收件人或发件人", "the mail server refuses an address"),
            hint=_SETTINGS,
        ) from error
    except (OSError, smtplib.SMTPException) as error:
        raise Transient(
            Text(
                f"邮件服务器 {host} 没有收下通知：{type(error).__name__}",
                f"the mail server {host} took no notice: {type(error).__name__}",
            ),
            hint=_ADVICE.interrupted,
        ) from error


def send_chat(
    settings: ChatSettings,
    text: str,
    *,
    secret: Callable[[str], str],
    now: datetime,
    monotonic: Callable[[], float],
    base: Path,
) -> None:
    """Send a text to a robot; raises our errors, Rejected for what the robot refuses."""
    address = secret(settings.url)
    key = None if settings.secret is None else secret(settings.secret)
    url, document = _payload(settings.kind, address, _cut(text), key, now)
    transport = Transport(
        address,
        monotonic=monotonic,
        timeouts=_TIMEOUTS,
        max_answer=_ANSWER,
        ca=None if settings.ca is None else base / settings.ca,
        advice=_ADVICE,
    )
    try:
        body = json.dumps(document, ensure_ascii=False).encode()
        headers = {"content-type": "application/json; charset=utf-8"}
        response = transport.post(Request(url, headers, body))
    finally:
        transport.close()
    _judge(response.status, response.body)


def _payload(
    kind: str, address: str, text: str, key: str | None, now: datetime
) -> tuple[str, dict[str, Any]]:
    """Return address and document for a robot; ``key`` signs where the robot asks for it."""
    if kind == "feishu":
        document: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
        if key is not None:
            stamp = str(int(now.timestamp()))
            document |= {"timestamp": stamp, "sign": _hmac(f"{stamp}\n{key}", "")}
        return address, document
    if kind == "json":
        title, _, rest = text.partition("\n")
        return address, {"title": title, "lines": rest.split("\n") if rest else []}
    document = {"msgtype": "text", "text": {"content": text}}
    if kind == "dingtalk" and key is not None:
        stamp = str(int(now.timestamp() * 1000))
        query = urlencode({"timestamp": stamp, "sign": _hmac(key, f"{stamp}\n{key}")})
        address += ("&" if "?" in address else "?") + query
    return address, document


def _hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), hashlib.sha256)).decode()


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= _MAX_BYTES:
        return text
    return data[:_MAX_BYTES].decode(errors="ignore") + "…"


def _judge(status: int, body: bytes) -> None:
    """Judge an answer: the robots answer 200 also to what they refuse."""
    code: object = 0
    if status < 300:  # noqa: PLR2004 - RFC 9110: it was taken
        try:
            document = json.loads(body or b"{}")
            if isinstance(document, dict):
                code = document.get("errcode", document.get("code", 0))
        except ValueError:
            code = 0  # another service's own words
        if code in {0, "0"}:
            return
    raise _refused(status, code)


def _refused(status: int, code: object) -> ExchangeError:
    retry = status >= 500 or status == 429  # noqa: PLR2004 - RFC 9110
    kind = Transient if retry else Rejected
    what = f"{status}" if not code else f"{status}/{str(code)[:20]}"
    return kind(
        Text(f"机器人没有收下通知：{what}", f"the robot took no notice: {what}"),
        hint=_ADVICE.interrupted if retry else _SETTINGS,
    )
