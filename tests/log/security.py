"""A broker that asks for credentials, and what its clients need: certificates, users, ACLs."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import trustme
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from exchange.devtools.servers.kafka import Cluster, Security
from exchange.settings import KafkaSettings

ADMIN = "admin"
PAGE = Path(__file__).parents[2] / "docs" / "kafka.md"


def certificate(authority: trustme.CA, name: str = "127.0.0.1") -> bytes:
    """Return PEM of a broker's key and chain."""
    return authority.issue_cert(name).private_key_and_cert_chain_pem.bytes()


@dataclass(frozen=True)
class Guarded:
    """A broker with SCRAM, TLS and StandardAuthorizer; a user's password is its name reversed."""

    cluster: Cluster
    folder: Path
    """Where ``ca.pem`` lies."""

    def settings(self, login: str | None = None, **changes: Any) -> KafkaSettings:
        """Make settings that are right for this broker, but for the changes."""
        given: dict[str, Any] = {"replication": 1, "min_insync": 1, "tls": True, "ca": "ca.pem"}
        if login is not None:
            given |= {"user": login, "password": f"env:{login[::-1]}"}
        return KafkaSettings.model_validate(
            {"bootstrap": self.cluster.bootstrap, **given, **changes}
        )

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(
            bootstrap_servers=list(self.cluster.bootstrap),
            security_protocol="SASL_SSL",
            ssl_cafile=str(self.folder / "ca.pem"),
            sasl_mechanism="SCRAM-SHA-512",
            sasl_plain_username=ADMIN,
            sasl_plain_password=ADMIN[::-1],
        )


def secret(reference: str) -> str:
    """Read a password as the tests write references: ``env:PASSWORD``."""
    return reference.removeprefix("env:")


def security(authority: trustme.CA, *users: str) -> Security:
    return Security(certificate(authority), {user: user[::-1] for user in (ADMIN, *users)})


# --- ACLs ---------------------------------------------------------------------------------

_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}


def documented() -> dict[str, list[ACL]]:
    """Read the commands of docs/kafka.md: by line, the ACLs that it makes."""
    parser = argparse.ArgumentParser()
    for name in ("allow-principal", "operation", "topic", "group", "transactional-id"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--resource-pattern-type", default="literal")
    text = PAGE.read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("acl --")]
    found = {}
    for line in lines:
        given = parser.parse_args(shlex.split(line)[1:])
        found[line] = [
            ACL(
                principal=principal,
                host="*",
                operation=ACLOperation[_snake(operation)],
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(
                    kind, name, ACLResourcePatternType[given.resource_pattern_type.upper()]
                ),
            )
            for principal, operation in product(given.allow_principal, given.operation)
            for option, kind in _KINDS.items()
            for name in getattr(given, option)
        ]
    return found


def _snake(operation: str) -> str:
    """``DescribeConfigs`` → ``DESCRIBE_CONFIGS``."""
    return "".join("_" + c if c.isupper() else c.upper() for c in operation).lstrip("_")


def grant(admin: KafkaAdminClient, acls: Sequence[ACL]) -> None:
    assert not admin.create_acls(list(acls))["failed"]
    wait_for(lambda: known(admin) >= set(acls))


def revoke(admin: KafkaAdminClient, acls: Sequence[ACL]) -> None:
    filters = [
        ACLFilter(
            acl.principal,
            acl.host,
            acl.operation,
            acl.permission_type,
            ResourcePatternFilter(
                acl.resource_pattern.resource_type,
                acl.resource_pattern.resource_name,
                acl.resource_pattern.pattern_type,
            ),
        )
        for acl in acls
    ]
    for _, matched, _ in admin.delete_acls(filters):
        assert len(matched) == 1
    wait_for(lambda: known(admin).isdisjoint(acls))


def known(admin: KafkaAdminClient) -> set[ACL]:
    """Return the ACLs that the broker goes by; it hears of a change a moment after it is made."""
    anything = ACLFilter(
        None,
        None,
        ACLOperation.ANY,
        ACLPermissionType.ANY,
        ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )
    return set(admin.describe_acls(anything)[0])


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
