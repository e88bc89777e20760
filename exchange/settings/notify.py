"""The section ``notify``: who is told when something waits for a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from exchange.settings.values import Duration, Identifier, Reference, SettingsSection, wrong


class MailSettings(SettingsSection):
    """A mail server that takes notices, and to whom they go.

    ``security``: ``tls`` from the beginning, ``starttls``, or ``none`` on this machine only.
    """

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65535)] = 465
    security: Literal["tls", "starttls", "none"] = "tls"
    user: str | None = None
    password: Reference | None = None
    sender: Annotated[str, Field(pattern=r"^[^\s@,;<>]+@[^\s@,;<>]+$")]
    to: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^\s@,;<>]+@[^\s@,;<>]+$")], ...],
        Field(min_length=1, max_length=50),
    ]
    ca: Path | None = None

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise wrong("user 与 password 须同时填写", "user and password come together")
        if self.security == "none" and self.host not in {"localhost", "127.0.0.1", "::1"}:
            raise wrong("security: none 只能用于本机", "security: none is for this machine only")
        return self


class ChatSettings(SettingsSection):
    """A robot of a work chat, or a service that takes JSON (``kind: json``).

    ``url`` is a secret: whoever knows the address of a robot can write to its group. ``secret``
    signs what 钉钉 and 飞书 are sent.
    """

    kind: Literal["wecom", "dingtalk", "feishu", "json"]
    url: Reference
    secret: Reference | None = None
    ca: Path | None = None


class NotifySettings(SettingsSection):
    """Who is told when something waits for a person, and how often at most."""

    mail: Mapping[Identifier, MailSettings] = Field(default_factory=dict)
    chat: Mapping[Identifier, ChatSettings] = Field(default_factory=dict)
    language: Literal["zh", "en"] = "zh"
    after: Annotated[Duration, Field(ge=timedelta(), le=timedelta(days=1))] = timedelta(minutes=5)
    repeat: Annotated[Duration, Field(gt=timedelta(), le=timedelta(days=30))] = timedelta(hours=12)
    distance: Annotated[Duration, Field(ge=timedelta(), le=timedelta(days=1))] = timedelta(
        minutes=10
    )
    overdue: Annotated[Duration, Field(gt=timedelta(), le=timedelta(days=30))] = timedelta(days=1)
    summary: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = None

    @model_validator(mode="after")
    def _has_channels(self) -> Self:
        if not self.channels or len(self.channels) < len(self.mail) + len(self.chat):
            raise wrong(
                "mail 与 chat 中至少要有一个渠道，名称不能重复",
                "mail and chat need a channel, and no name twice",
            )
        return self

    @property
    def channels(self) -> Mapping[str, MailSettings | ChatSettings]:
        """All channels by name."""
        return {**self.mail, **self.chat}

    @property
    def summary_time(self) -> time | None:
        """When the daily summary is sent, Beijing time."""
        return None if self.summary is None else time.fromisoformat(self.summary)
