"""Settings of a node: the sections of ``exchange.yaml``, and how the file is read."""

from exchange.settings.loading import FILE_NAME, find, load
from exchange.settings.notify import ChatSettings, MailSettings, NotifySettings
from exchange.settings.sections import (
    KafkaSettings,
    NodeIdentity,
    ReceiverSettings,
    RegistrySettings,
    SealSettings,
    Settings,
    SourceSettings,
    TsaSettings,
)
from exchange.settings.timeouts import Timeouts
from exchange.settings.values import Duration

__all__ = [
    "FILE_NAME",
    "ChatSettings",
    "Duration",
    "KafkaSettings",
    "MailSettings",
    "NodeIdentity",
    "NotifySettings",
    "ReceiverSettings",
    "RegistrySettings",
    "SealSettings",
    "Settings",
    "SourceSettings",
    "Timeouts",
    "TsaSettings",
    "find",
    "load",
]
