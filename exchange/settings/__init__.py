"""Settings of a node: the sections of ``exchange.yaml``, and how the file is read."""

from exchange.settings.loading import FILE_NAME, find, load
from exchange.settings.sections import (
    Duration,
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

__all__ = [
    "FILE_NAME",
    "Duration",
    "KafkaSettings",
    "NodeIdentity",
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
