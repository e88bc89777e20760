"""Messages between the node and the process that reads a file: JSON behind its length.

No message is code, and none is longer than :data:`MAX_MESSAGE`: the process that reads
untrusted files is itself not trusted.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

MAX_MESSAGE = 256 * 1024 * 1024
_LENGTH = struct.Struct(">Q")


def send(channel: socket.socket, message: dict[str, Any], descriptor: int | None = None) -> None:
    """Send one message, and with it an open file; raises OSError when nobody listens."""
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    body = text.encode("utf-8", "surrogatepass")
    head = _LENGTH.pack(len(body))
    if descriptor is None:
        channel.sendall(head)
    else:
        socket.send_fds(channel, [head], [descriptor])
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[dict[str, Any], int | None] | None:
    """Receive one message and the file that came with it; None at the end.

    Raises ValueError for a message that is too long or none of ours, OSError (TimeoutError) as
    the channel does.
    """
    head, descriptors, _, _ = socket.recv_fds(channel, _LENGTH.size, 1)
    descriptor = descriptors[0] if descriptors else None
    try:
        return (_message(channel, head), descriptor) if head else None
    except BaseException:
        if descriptor is not None:
            os.close(descriptor)
        raise


def _message(channel: socket.socket, head: bytes) -> dict[str, Any]:
    (size,) = _LENGTH.unpack(head + _exactly(channel, _LENGTH.size - len(head)))
    if size > MAX_MESSAGE:
        raise ValueError(f"a message of {size} bytes")
    message = json.loads(_exactly(channel, size))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")  # noqa: TRY004 - as for any bad message
    return message


def _exactly(channel: socket.socket, size: int) -> bytes:
    out = bytearray()
    while len(out) < size:
        data = channel.recv(min(size - len(out), 1 << 20))
        if not data:
            raise ValueError("the channel ended within a message")
        out += data
    return bytes(out)
