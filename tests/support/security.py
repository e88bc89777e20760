"""A broker that asks for credentials, and what its clients need: certificates, users, ACLs."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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

from exchange.devtools.servers.kafka import Cluster, Security, brokers
from exchange.devtools.servers.kafka_files import SECURED, Ports, mapped, own, tls
from exchange.errors import Transient
from exchange.settings import KafkaSettings
from tests.support.servers import free_port

ADMIN, USER = "admin", "clerk"
USERS = (ADMIN, USER, "pull", "seal", "cascade", "evidence", "operator")
"""A user's password is its name reversed."""
PAGE = Path(__file__).parents[2] / "docs" / "kafka.md"


@dataclass(frozen=True)
class SecuredBroker:
    """A broker with TLS, SCRAM and StandardAuthorizer."""

    cluster: Cluster
    folder: Path
    """What clients need: ``ca.pem``, and that of an authority that signed nothing of the broker,
    ``other.pem``; certificates and keys of ``admin``, ``clerk``, and of a ``stranger``."""
    certified: tuple[str, ...] = ()
    """Where it asks for certificates in place of user and password."""
    misnamed: tuple[str, ...] = ()
    """Where it has a certificate for another name."""

    def settings(self, login: str | None = None, **changes: Any) -> KafkaSettings:
        """Make settings that are right for this broker, but for the changes."""
        values: dict[str, Any] = {"replication": 1, "min_insync": 1, "tls": True, "ca": "ca.pem"}
        if login is not None:
            values |= {"user": login, "password": f"env:{login[::-1]}"}
        return KafkaSettings.model_validate(
            {"bootstrap": self.cluster.bootstrap, **values, **changes}
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


def _certificate(authority: trustme.CA, name: str = "127.0.0.1") -> bytes:
    """Return PEM of a broker's key and chain."""
    return authority.issue_cert(name).private_key_and_cert_chain_pem.bytes()


def secret(reference: str) -> str:
    """Read a password as the tests write references: ``env:PASSWORD``."""
    return reference.removeprefix("env:")


@contextmanager
def guarded(folder: Path) -> Iterator[SecuredBroker]:
    """Run the broker; its files lie in an empty folder."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "other.pem"))
    for file, by, name in (
        (ADMIN, authority, ADMIN),
        (USER, authority, USER),
        ("stranger", stranger, ADMIN),
    ):
        result = by.issue_cert(f"{name}@example.gov.cn", common_name=name)
        result.private_key_pem.write_to_path(str(folder / f"{file}.key"))
        (folder / f"{file}.crt").write_bytes(
            b"".join(pem.bytes() for pem in result.cert_chain_pems)
        )
    right, wrong = _certificate(authority), _certificate(authority, "kafka-1")
    certified, misnamed = free_port(), free_port()

    def listeners(number: int, ports: Ports) -> Mapping[str, object]:
        answer = own(number, ports, Path())
        more = f"CERTIFIED://127.0.0.1:{certified},MISNAMED://127.0.0.1:{misnamed}"
        return {
            "listeners": f"{answer['listeners']},{more}",
            "advertised.listeners": f"{answer['advertised.listeners']},{more}",
            "listener.security.protocol.map": mapped(
                {**SECURED, "CERTIFIED": "SSL", "MISNAMED": "SSL"}
            ),
            **tls("certified", right, folder, authority.cert_pem.bytes()),
            **tls("misnamed", wrong, folder),
        }

    security = Security(right, {user: user[::-1] for user in USERS}, ADMIN)
    with brokers(security=security, properties=listeners) as cluster:
        yield SecuredBroker(
            cluster, folder, (f"127.0.0.1:{certified}",), (f"127.0.0.1:{misnamed}",)
        )


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
    values = {}
    for line in lines:
        args = parser.parse_args(shlex.split(line)[1:])
        values[line] = [
            ACL(
                principal=principal,
                host="*",
                operation=ACLOperation[_snake(operation)],
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(
                    kind, name, ACLResourcePatternType[args.resource_pattern_type.upper()]
                ),
            )
            for principal, operation in product(args.allow_principal, args.operation)
            for option, kind in _KINDS.items()
            for name in getattr(args, option)
        ]
    return values


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


def wait_for(there: Callable[[], object]) -> None:
    """Wait until it is so; a cluster that has no answer now is asked again."""
    end = time.monotonic() + 120
    while True:
        with suppress(Transient):
            if there():
                return
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
