"""Whether brokers would take us, asked in the order in which they look at a connection.

kafka-python goes on trying whatever a broker objects to, and often loses the objection when the
connection closes. So the first connection of a process is made by hand, up to the password:

1. the address answers;
2. TLS: the broker's certificate is trusted, and bears the name;
3. TLS: the broker takes our certificate, or asks for none;
4. the listener asks for a password exactly when we have one;
5. it knows our mechanism;
6. it takes user and password.

Raises Misconfigured (2, 4, 5) and Denied (3, 6), and Transient when no broker answers (1).
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
from typing import TYPE_CHECKING, Any, Self

from kafka import errors
from kafka.net.sasl.scram import ScramClient
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from exchange.errors import Denied, ExchangeError, Misconfigured, Transient
from exchange.foreign import original, os_reason
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VERDICT_SECONDS = 0.5
"""How long a broker may take to look at our certificate; TLS 1.3 tells only afterwards."""
_PATIENCE_SECONDS = 5.0
"""Longest wait for each answer of a broker: the next one may be quicker."""
_MAX_ANSWER = 1 << 20


def check(
    addresses: Sequence[str], config: Mapping[str, Any], seconds: float, *, section: str
) -> None:
    """Return when one of the brokers takes us; raises what the others say.

    ``config`` is what kafka-python's clients get; ``seconds`` bounds each step;
    ``section`` names the settings that the reader has to look at, such as ``log.kafka``.
    """
    objections: list[ExchangeError] = []
    away: list[tuple[str, Text]] = []
    for address in addresses:
        try:
            _look(address, config, min(seconds, _PATIENCE_SECONDS), section)
        except (Denied, Misconfigured) as error:
            objections.append(error)
        except (OSError, errors.KafkaError) as error:
            why = os_reason(error) if isinstance(error, OSError) else original(error)
            away.append((address, why))
        else:
            return
    if objections:
        raise objections[0]
    zh = "；".join(f"{address}（{why.zh}）" for address, why in away)
    en = ", ".join(f"{address} ({why.en})" for address, why in away)
    raise Transient(
        Text(f"连不上 Kafka 集群：{zh}", f"cannot reach the Kafka cluster: {en}"),
        hint=Text(
            f"核对 {section}.bootstrap、网络和防火墙，以及代理是否在运行",
            f"check {section}.bootstrap, the network and firewalls, and that the brokers run",
        ),
    )


def _look(address: str, config: Mapping[str, Any], seconds: float, section: str) -> None:
    """Ask one broker; raises what it objects to, or the failure of the connection."""
    mechanism = config.get("sasl_mechanism")
    with _Connection(address, seconds, section) as connection:  # (1)
        if "ssl_context" in config:
            connection.secure(config["ssl_context"])  # (2)
        connection.agree(mechanism)  # (3), (4), (5)
        if mechanism is not None:
            user, password = config["sasl_plain_username"], config["sasl_plain_password"]
            connection.log_in(user, password, mechanism)  # (6)


class _Connection:
    """A connection to a broker that speaks no more than is needed to be let in.

    ``second``: opened to find out what became of another one; it opens no third.
    """

    def __init__(
        self, address: str, seconds: float, section: str = "", *, second: bool = False
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address, self._host, self._seconds = address, host, seconds
        self._second = second
        self._section = section
        self._socket = socket.create_connection((host, int(port)), timeout=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def secure(self, context: ssl.SSLContext) -> None:
        """Check the broker's certificate and show ours."""
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=self._host)
            select.select([self._socket], [], [], _VERDICT_SECONDS)
        except ssl.SSLCertVerificationError as error:
            raise Misconfigured(
                Text(
                    f"{self._address} 的证书不可信：{os_reason(error).zh}",
                    f"the certificate of {self._address} is not trusted: {os_reason(error).en}",
                ),
                hint=Text(
                    f"在 {self._section}.ca 中登记其签发机构；bootstrap 须写证书上的名称",
                    f"name its authority in {self._section}.ca, and the broker in bootstrap as in "
                    "its certificate",
                ),
            ) from error
        except (ssl.SSLError, ConnectionError) as error:
            if not self._second and _in_the_clear(self._address, self._seconds):
                raise Misconfigured(
                    Text(f"{self._address} 不使用 TLS", f"{self._address} does not speak TLS"),
                    hint=Text(
                        f"改用集群的 TLS 端口，或去掉 {self._section}.tls",
                        f"name the cluster's TLS port, or take {self._section}.tls out",
                    ),
                ) from error
            raise

    def agree(self, mechanism: str | None) -> None:
        """Agree on how to log in, or that nobody does."""
        request = SaslHandshakeRequest(version=1, mechanism=mechanism or "SCRAM-SHA-512")
        answer = self._ask(request)
        asks = answer.error_code != errors.IllegalSaslStateError.errno
        if asks == (mechanism is None):
            wants = Text("要求用户名和密码", "asks for user and password")
            without = Text("不要求用户名和密码", "does not ask for user and password")
            what = wants if asks else without
            raise Misconfigured(
                Text(f"{self._address} {what.zh}", f"{self._address} {what.en}"),
                hint=Text(
                    f"核对端口，或在 {self._section} 中填写(或去掉) user 与 password",
                    f"check the port, or give (take out) user and password under {self._section}",
                ),
            )
        if mechanism is not None and answer.error_code:
            offered = ", ".join(answer.mechanisms)
            raise Misconfigured(
                Text(
                    f"{self._address} 不支持 {mechanism}", f"{self._address} offers no {mechanism}"
                ),
                hint=Text(f"它支持：{offered}", f"it offers {offered}"),
            )

    def log_in(self, user: str, password: str, mechanism: str) -> None:
        """Show that we know the password, and see that the broker does."""
        try:
            if mechanism == "PLAIN":
                self._authenticate(f"\0{user}\0{password}".encode())
                return
            scram = ScramClient(user, password, mechanism)
            scram.process_server_first_message(self._authenticate(scram.first_message()))
            scram.process_server_final_message(self._authenticate(scram.final_message()))
        except (ValueError, KeyError, errors.SaslAuthenticationFailedError) as error:
            raise Denied(
                Text(
                    f"{self._address} 拒绝用户 {user} 登录", f"{self._address} refuses user {user}"
                ),
                hint=Text(
                    f"核对 {self._section} 的 user、password 与 mechanism",
                    f"check user, password and mechanism under {self._section}",
                ),
            ) from error

    def _authenticate(self, said: bytes) -> bytes:
        answer = self._ask(SaslAuthenticateRequest(said, version=1))
        if answer.error_code:
            raise errors.SaslAuthenticationFailedError
        heard: bytes = answer.auth_bytes
        return heard

    def _ask(self, request: Any) -> Any:
        """Send a request and return the answer."""
        parser = KafkaProtocol(client_id="exchange.probe", receive_message_max_bytes=_MAX_ANSWER)
        parser.send_request(request)
        try:
            self._socket.sendall(parser.send_bytes())
            while heard := self._socket.recv(4096):
                for _, answer in parser.receive_bytes(heard):
                    return answer
        except ssl.SSLError as error:
            if "ALERT" not in str(error.reason):
                raise
            raise Denied(
                Text(
                    f"{self._address} 不接受我方证书：{original(error.reason).zh}",
                    f"{self._address} refuses our certificate: {original(error.reason).en}",
                ),
                hint=Text(
                    f"在 {self._section} 中填写 certificate 与 key，须由集群信任的机构签发",
                    f"give certificate and key under {self._section}, of an authority the brokers "
                    "trust",
                ),
            ) from error
        except (ConnectionError, errors.KafkaError):
            self._tls_only()
            raise
        self._tls_only()
        raise ConnectionResetError(errno.ECONNRESET, "closed without an answer")

    def _tls_only(self) -> None:
        """Tell a listener that speaks TLS only from one that is going away."""
        known = self._second or isinstance(self._socket, ssl.SSLSocket)
        if not known and _speaks_tls(self._address, self._seconds):
            raise Misconfigured(
                Text(f"{self._address} 只接受 TLS", f"{self._address} speaks TLS only"),
                hint=Text(
                    f"设置 {self._section}.tls: true，并在 ca 中登记其签发机构",
                    f"set {self._section}.tls: true, and name the brokers' authority in ca",
                ),
            )


def _speaks_tls(address: str, seconds: float) -> bool:
    """Tell whether anything there answers to TLS; nothing is sent over it."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        with _Connection(address, seconds, second=True) as other:
            other.secure(anybody)
    except (OSError, ExchangeError):
        return False
    return True


def _in_the_clear(address: str, seconds: float) -> bool:
    """Tell whether a broker there answers without TLS."""
    try:
        with _Connection(address, seconds, second=True) as other:
            other.agree(None)
    except Misconfigured:
        return True  # it asks for a password, in the clear
    except (OSError, ExchangeError, errors.KafkaError):
        return False
    return True
