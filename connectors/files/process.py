"""Read untrusted files in a process of its own, so that none of them can end the node.

One process reads many files; it starts with the first of them. When it dies or is silent for
too long, the file that it read is refused, the process is replaced, and the others go on.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from exchange.connectors.files.channel import receive, send
from exchange.errors import ExchangeError, Misconfigured, Rejected, Transient
from exchange.text import Text

SILENCE_SECONDS = 60
"""Beyond its processor time: how long the process may wait for a disk, say, in the middle."""
_START = (
    "import json,sys;sys.path[:]=json.loads(sys.argv.pop());"
    "from exchange.connectors.files.child import main;main(*map(int,sys.argv[1:]))"
)
_STOPPED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL}
"""Signals of an operator or of a system that stops or runs out of memory: try again."""


class ReaderProcess:
    """A process that reads spreadsheets and web pages, started when it is first needed.

    ``memory`` (MiB) and ``seconds`` (of processor time) limit each file. It inherits no
    environment and no file but its socket.
    """

    def __init__(self, *, memory: int, seconds: int) -> None:
        self._memory = memory
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, stream: BinaryIO, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the answers for an open file.

        Raises Rejected (Misconfigured) for a file that is refused, that ends the process, or
        whose reading takes more than the limits; Transient when the process was stopped.
        """
        channel = self._open()
        whole = False
        try:
            stream.seek(0)
            send(channel, dict(request), stream.fileno())
            while True:
                received = receive(channel)
                if received is None:
                    raise self._died()
                answer, _ = received
                if "refused" in answer:
                    whole = True
                    raise _refused(answer)
                if "end" in answer:
                    whole = True
                    return
                yield answer
        except TimeoutError as error:
            raise self._over("seconds") from error
        except (OSError, ValueError) as error:
            raise self._died() from error
        finally:
            if not whole:
                self.close()

    def close(self) -> None:
        """End the process and wait for its end."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _open(self) -> socket.socket:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        self.close()
        ours, theirs = socket.socketpair()
        ours.settimeout(self._seconds + SILENCE_SECONDS)
        path = [str(Path(entry).resolve()) for entry in sys.path]
        arguments = [str(theirs.fileno()), str(self._memory), str(self._seconds), json.dumps(path)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-I", "-S", "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={"LC_ALL": "C.UTF-8", "TZ": "UTC"},
                # Signals of a terminal are for the node, which then ends this process itself.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = ours
        return ours

    def _died(self) -> ExchangeError:
        process = self._process
        if process is None:
            return _stopped("")
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        try:
            code = process.wait(SILENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return self._over("seconds")
        if code == -signal.SIGXCPU:
            return self._over("seconds")
        if -code in _STOPPED:
            return _stopped(signal.Signals(-code).name)
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return Rejected(
            Text(
                f"使读取程序崩溃（{how}，内存上限 {self._memory} MiB）",
                f"ends the program that reads it ({how}; the limit is {self._memory} MiB)",
            ),
            hint=Text(
                "文件可能已损坏，或有一个单元格远在表外；请重新导出，或另存为 CSV",
                "it may be damaged, or have a cell far outside: export it again, or save it as CSV",
            ),
        )

    def _over(self, _what: str) -> Rejected:
        return Rejected(
            Text(
                f"读取超过 {self._seconds} 秒的上限", f"takes longer to read than {self._seconds} s"
            ),
            hint=Text(
                "请检查该文件、拆分它，或提高 read_seconds",
                "look at the file, split it, or raise read_seconds",
            ),
        )


def _stopped(how: str) -> Transient:
    return Transient(
        Text(
            f"读取它的程序被系统停止 {how}", f"the system stopped the program that reads it {how}"
        ),
        hint=Text("下次拉取会重新读取", "the next pull reads it again"),
    )


def _refused(answer: Mapping[str, Any]) -> Rejected:
    kind = Misconfigured if answer["refused"] == "Misconfigured" else Rejected
    return kind(Text(*map(str, answer["what"])), hint=Text(*map(str, answer["hint"])))
