"""Settings of a node: the sections of ``exchange.yaml``, and how the file is read."""

from exchange.settings.sections import (
    FILE_NAME,
    Duration,
    KafkaSettings,
    NodeIdentity,
    RegistrySettings,
    SealSettings,
    Settings,
    SourceSettings,
    TsaSettings,
    find,
    load,
    read_secret,
)

__all__ = [
    "FILE_NAME",
    "Duration",
    "KafkaSettings",
    "NodeIdentity",
    "RegistrySettings",
    "SealSettings",
    "Settings",
    "SourceSettings",
    "TsaSettings",
    "find",
    "load",
    "read_secret",
]
