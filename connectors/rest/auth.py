"""How a request says who asks: a password, a token, a signature."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

from exchange.connect import (
    Denied,
    HttpClient,
    Misconfigured,
    Request,
    Secret,
    Text,
    rtime,
    sign,
    unwrap_secret,
)
from exchange.connectors.rest.document import read_document

AuthKind = Literal["none", "basic", "bearer", "header", "query", "oauth2", "hmac", "hmac_two_step"]
Platform = Literal["gjzwfwpt", "gjgxjhpt"]

_EARLY = timedelta(seconds=30)
"""A token is renewed this long before it ends."""
_LIFE = timedelta(minutes=10)
"""Of a token whose end nobody told."""
_LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Account:
    """The settings of a login."""

    kind: AuthKind
    user: str
    secret: Secret | None
    name: str
    """Of the header or the query parameter that carries the secret."""
    token_url: str
    scope: str
    client_in: Literal["header", "body"]
    rid: str
    sid: str
    platform: Platform

    def __post_init__(self) -> None:
        """Raise Misconfigured for what is missing."""
        needs: dict[str, tuple[str, ...]] = {
            "basic": ("user", "secret"),
            "bearer": ("secret",),
            "header": ("secret", "name"),
            "query": ("secret", "name"),
            "oauth2": ("user", "secret", "token_url"),
            "hmac": ("secret", "rid", "sid"),
            "hmac_two_step": ("secret", "rid", "sid", "token_url"),
        }
        names = {"name": "auth_name"}
        missing = [names.get(n, n) for n in needs.get(self.kind, ()) if not getattr(self, n)]
        if missing:
            raise Misconfigured(
                Text(
                    f"auth: {self.kind} 缺少 {', '.join(missing)}",
                    f"auth: {self.kind} needs {', '.join(missing)}",
                ),
                hint=Text("请补全该数据源的配置", "complete the settings of this source"),
            )

    def reveal(self) -> str:
        """Return the secret."""
        return "" if self.secret is None else self.secret.reveal()


@dataclass
class Authenticator:
    """Makes the parts of each request that say who asks; fetches tokens and keeps them."""

    account: Account
    client: Callable[[], HttpClient]
    """Opens the client of ``token_url``."""
    now: Callable[[], datetime]
    _token: str = field(default="", repr=False)
    _ends: datetime | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of one request; raises our errors."""
        account = self.account
        made: dict[str, str] = {}
        match account.kind:
            case "basic":
                pair = f"{account.user}:{account.reveal()}".encode()
                made["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
            case "bearer":
                made["authorization"] = f"Bearer {account.reveal()}"
            case "header":
                made[account.name] = account.reveal()
            case "oauth2":
                made["authorization"] = f"Bearer {self._current(self._oauth2)}"
            case "hmac":
                made = self._signed(account.reveal())
            case "hmac_two_step":
                made = self._signed(self._current(self._two_step))
        return made

    def query(self) -> dict[str, str]:
        """Return the query parameters of one request."""
        account = self.account
        return {account.name: account.reveal()} if account.kind == "query" else {}

    def renew(self) -> bool:
        """Forget a token that was refused; False when there was none to forget."""
        had, self._token = bool(self._token), ""
        return had

    def hide(self, text: str) -> str:
        """Blank secrets and tokens out of a text."""
        if self._token:
            text = text.replace(self._token, "***")
        return text if self.account.secret is None else self.account.secret.hide(text)

    def _signed(self, key: str) -> dict[str, str]:
        account, moment = self.account, rtime(self.now())
        prefix = account.platform
        return {
            f"{prefix}_rid": account.rid,
            f"{prefix}_sid": account.sid,
            f"{prefix}_rtime": moment,
            f"{prefix}_sign": sign(key, sid=account.sid, rid=account.rid, rtime=moment),
        }

    def _current(self, ask: Callable[[], tuple[str, timedelta]]) -> str:
        """Return the token, a new one when the last has ended."""
        now = self.now()
        if not self._token or self._ends is None or now >= self._ends:
            token, life = ask()
            life = min(life, _LONGEST)
            self._token, self._ends = token, now + max(life - _EARLY, life / 2)
        return self._token

    def _oauth2(self) -> tuple[str, timedelta]:
        """Ask for a token (RFC 6749 §4.4)."""
        account = self.account
        form = {"grant_type": "client_credentials"}
        if account.scope:
            form["scope"] = account.scope
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if account.client_in == "header":
            # The parts are form-encoded first: RFC 6749 §2.3.1.
            pair = urlencode({account.user: account.reveal()}).replace("=", ":", 1)
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": account.user, "client_secret": account.reveal()}
        answer = self._ask(headers, urlencode(form).encode())
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise _no_token("access_token")
        seconds = _digits(answer.get("expires_in"))
        return token, timedelta(seconds=seconds) if seconds else _LIFE

    def _two_step(self) -> tuple[str, timedelta]:
        """Ask an older gateway for the key of the signatures."""
        account, now = self.account, self.now()
        body = self._signed(account.reveal())
        headers = {"content-type": "application/json;charset=utf-8"}
        answer = self._ask(headers, json.dumps(body).encode())
        data = answer.get("data")
        if answer.get("code") != "0" or not isinstance(data, dict):
            raise _no_token(str(answer.get("code"))[:40])
        wrapped = data.get("secret")
        if not isinstance(wrapped, str):
            raise _no_token("data.secret")
        milliseconds = _digits(data.get("secretEndTime"))
        if not milliseconds:
            return unwrap_secret(account.reveal(), wrapped), _LIFE
        life = datetime.fromtimestamp(milliseconds / 1000, UTC) - now
        return unwrap_secret(account.reveal(), wrapped), max(life, timedelta())

    def _ask(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        url = self.account.token_url
        client = self.client()
        try:
            answer = client.fetch(lambda: Request(url, headers, body), post=True)
        finally:
            client.close()
        place = Text("token_url", "token_url")
        document = read_document(answer, place)
        if not isinstance(document, dict):
            raise _no_token("JSON object")
        return document


_MOST_DIGITS = 14


def _digits(value: object) -> int:
    """Return a whole number that stands as a number or as text; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= _MOST_DIGITS else 0
    return 0


def _no_token(name: str) -> Denied:
    return Denied(
        Text(f"token_url 没有给出令牌（{name}）", f"token_url gives no token ({name})"),
        hint=Text("请检查账号、密钥和 scope", "check the account, its secret and the scope"),
    )
