"""Settings become a client's configuration, or are refused before anything is sent."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from exchange.errors import Misconfigured
from exchange.log.kafka.client import connection
from exchange.settings import KafkaSettings


def configured(**settings: Any) -> dict[str, Any]:
    base = settings.pop("base", Path())
    kafka_settings = KafkaSettings(**{"bootstrap": ("127.0.0.1:9092",)} | settings)
    return connection(
        kafka_settings, secret=lambda reference: f"<{reference}>", base=base, worker="w"
    )


def test_loopback_needs_no_encryption() -> None:
    for address in ("127.0.0.1:9092", "localhost:9092", "127.8.0.1:1"):
        assert configured(bootstrap=(address,))["security_protocol"] == "PLAINTEXT"


def test_anything_else_needs_it_unless_said_otherwise() -> None:
    far = ("127.0.0.1:9092", "kafka.example:9092")
    with pytest.raises(Misconfigured, match=r"kafka\.example:9092"):
        configured(bootstrap=far)
    assert configured(bootstrap=far, tls=True)["security_protocol"] == "SSL"
    assert configured(bootstrap=far, insecure_plaintext=True)["security_protocol"] == "PLAINTEXT"


def test_a_user_proves_itself_and_its_password_is_not_shown() -> None:
    config = configured(tls=True, user="node", password="env:SECRET")
    assert config["security_protocol"] == "SASL_SSL"
    assert config["sasl_mechanism"] == "SCRAM-SHA-512"
    assert config["sasl_plain_password"] == "<env:SECRET>"
    assert "SECRET" not in f"{config}"


@pytest.mark.parametrize(
    "halves",
    [
        {"user": "node"},
        {"password": "env:SECRET"},
        {"ca": Path("ca.pem")},
        {"tls": True, "certificate": Path("own.pem")},
        {"tls": True, "key": Path("own.pem")},
        {"replication": 1, "min_insync": 2},
        {"tls": True, "ca": Path("missing.pem")},
    ],
)
def test_what_contradicts_itself_is_refused(halves: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        configured(**halves)


def test_names_and_certificates_of_brokers_are_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own = authority.issue_cert("node.example")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    config = configured(
        tls=True,
        ca=Path("ca.pem"),
        certificate=Path("own.pem"),
        key=Path("own.pem"),
        base=tmp_path,
    )
    context = config["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert [dict(item[0] for item in ca["subject"]) for ca in context.get_ca_certs()]
    (tmp_path / "own.pem").write_text("no PEM")
    with pytest.raises(Misconfigured):
        configured(tls=True, certificate=Path("own.pem"), key=Path("own.pem"), base=tmp_path)
