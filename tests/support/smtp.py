"""A mail server on loopback: it takes mail over TLS and keeps it."""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage

from tests.support.sockets import listening


@dataclass
class Mailbox:
    """What a server took, and from whom."""

    password: str
    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    to: list[str] = field(default_factory=list)
    sessions: list[bool] = field(default_factory=list)
    """For each login: whether the line was secured."""


@contextlib.contextmanager
def mail_server(
    password: str, context: ssl.SSLContext | None = None, *, starttls: bool = False
) -> Iterator[Mailbox]:
    """Serve; with ``starttls`` the line is secured after the greeting, else from the beginning."""
    mailbox = Mailbox(password)

    def handler(connection: socket.socket) -> None:
        if context is not None and not starttls:
            with context.wrap_socket(connection, server_side=True) as secured:
                _speak(secured, mailbox, None, greet=True)
        elif _speak(connection, mailbox, context, greet=True) and context is not None:
            with context.wrap_socket(connection, server_side=True) as secured:
                _speak(secured, mailbox, None, greet=False)

    with listening(handler) as address:
        mailbox.port = int(address.rpartition(":")[2])
        yield mailbox


def _speak(
    line: socket.socket, mailbox: Mailbox, context: ssl.SSLContext | None, *, greet: bool
) -> bool:
    """Serve one session; True when the client wants TLS now."""
    with line.makefile("rb") as lines:
        if greet:
            line.sendall(b"220 mail\r\n")
        for raw in lines:
            command = raw.decode().strip()
            match command.split()[0].upper():
                case "EHLO":
                    secure = b"250-STARTTLS\r\n" if context is not None else b""
                    line.sendall(b"250-mail\r\n" + secure + b"250 AUTH PLAIN\r\n")
                case "STARTTLS":
                    line.sendall(b"220 now\r\n")
                    return True
                case "AUTH":
                    given = base64.b64decode(command.split()[2]).decode().split("\0")[2]
                    mailbox.sessions.append(isinstance(line, ssl.SSLSocket))
                    good = given == mailbox.password
                    line.sendall(b"235 yes\r\n" if good else b"535 no\r\n")
                case "DATA":
                    line.sendall(b"354 go\r\n")
                    data = b"".join(iter(lines.readline, b".\r\n"))
                    message = email.message_from_bytes(data, policy=email.policy.default)
                    mailbox.mails.append(message)
                    line.sendall(b"250 kept\r\n")
                case "QUIT":
                    line.sendall(b"221 bye\r\n")
                    return False
                case "RCPT":
                    mailbox.to.append(command.partition(":")[2].strip("<>"))
                    line.sendall(b"250 yes\r\n")
                case _:
                    line.sendall(b"250 yes\r\n")
    return False
