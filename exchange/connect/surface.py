"""What an author writes and what the pipeline calls: connector, Pulled, Source."""

from __future__ import annotations

import inspect
import json
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.connect.error_map import map_errors
from exchange.connect.spec import describe, json_schema, parse, secrets_of, settings_model
from exchange.errors import ExchangeError, Misconfigured, Rejected, Transient
from exchange.foreign import original
from exchange.text import Text

if TYPE_CHECKING:
    import polars as pl
    from pydantic import BaseModel

    from exchange.connect.secrets import Resolver

Cursor = Mapping[str, Any]
"""Where a source stands (游标): JSON-able, opaque to everybody but its connector."""
Clock = Callable[[], datetime]

MAX_CURSOR_BYTES = 768 * 1024
"""A cursor travels as one message of the log."""
CHECK_SECONDS = 30.0
_AUTHOR = Text("请修改连接器的代码，见 docs/connectors.md", "mend its code, see docs/connectors.md")


@dataclass(frozen=True, slots=True)
class Note:
    """Something in the source that is not a record: a title, a group row, a blank tail.

    ``row`` is its 1-based position, ``kind`` a short word such as ``title`` or ``group``.
    """

    row: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """A frame, and the cursor that stands behind its last row.

    ``cursor`` None: the pull cannot be resumed here. ``locator`` names the place within the
    source (table; file/sheet). A frame of 0 rows moves the cursor or carries notes only.
    ``changes``: the records are changes, so one that was delivered already may come again in a
    newer version once a broken pull goes on; what goes on counts as another pull then.
    ``complete``: all that can be taken is taken; an error that the connector raises behind this
    frame names what it had to leave out, and the pull is done all the same.
    ``next_pull``: another pull begins with this frame, for a record that this one has brought
    may come again in it, in a newer version; the frame before has a cursor.
    ``unfinished``: something is left for the next pull, such as a file that is still being
    written: what came is not the source's whole state.
    """

    frame: pl.DataFrame
    cursor: Cursor | None = None
    locator: str = ""
    notes: tuple[Note, ...] = field(default=())
    changes: bool = False
    complete: bool = False
    next_pull: bool = False
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """The first rows of a source (None: there are none), their place, and what is no record."""

    frame: pl.DataFrame | None
    locator: str
    notes: tuple[Note, ...]


Function = Callable[..., Iterable["pl.DataFrame | Pulled"]]


class Connector:
    """A connector (连接器): a generator function with a name and a settings specification."""

    def __init__(self, name: str, function: Function) -> None:
        self.name = name
        self.function = function
        self.model = settings_model(name, function)
        self.resumable = "cursor" in inspect.signature(function).parameters
        self._hooks: dict[str, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        return f"Connector({self.name!r})"

    def check(self, hook: Callable[..., Text]) -> Callable[..., Text]:
        """Register (``@name.check``) how to try the source without pulling: says what it saw."""
        self._hooks["check"] = hook
        return hook

    def discover(
        self, hook: Callable[..., list[dict[str, Any]]]
    ) -> Callable[..., list[dict[str, Any]]]:
        """Register (``@name.discover``) how to list what the source offers."""
        self._hooks["discover"] = hook
        return hook

    def columns(
        self, hook: Callable[..., tuple[str, ...] | None]
    ) -> Callable[..., tuple[str, ...] | None]:
        """Register (``@name.columns``) how to tell a pull's columns without reading rows.

        None: there is nothing yet that has columns.
        """
        self._hooks["columns"] = hook
        return hook

    def concerns(self, hook: Callable[..., tuple[Text, ...]]) -> Callable[..., tuple[Text, ...]]:
        """Register (``@name.concerns``) how to find what a person should look into."""
        self._hooks["concerns"] = hook
        return hook

    def rewind(self, hook: Callable[..., Cursor]) -> Callable[..., Cursor]:
        """Register (``@name.rewind``) how to make the cursor that starts from the value ``to``.

        The function may name ``cursor``: where the source stands now.
        """
        self._hooks["rewind"] = hook
        return hook

    def retry(self, hook: Callable[..., Cursor]) -> Callable[..., Cursor]:
        """Register (``@name.retry``) how to forget what was refused, so that it is read again.

        The function may name ``cursor``: where the source stands now.
        """
        self._hooks["retry"] = hook
        return hook

    def spec(self) -> dict[str, Any]:
        """Describe the connector, JSON-able: name, doc, resumable, settings."""
        return {
            "name": self.name,
            "doc": inspect.getdoc(self.function) or "",
            "resumable": self.resumable,
            "settings": describe(self.model),
        }

    def schema(self) -> dict[str, Any]:
        """Return the settings as JSON Schema, for editors and other programs."""
        return json_schema(self.model, self.name, inspect.getdoc(self.function) or "")

    def open(
        self,
        settings: Mapping[str, Any],
        secrets: Resolver,
        *,
        now: Clock = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        base: Path = Path(),
    ) -> Source:
        """Check the settings and return the source; nothing is connected yet.

        ``base`` is where relative paths start. Raises Misconfigured naming every wrong key.
        """
        model = parse(self.name, self.model, settings, secrets)
        return Source(self, model, {"now": now, "sleep": sleep, "base": base}, self._hooks)


def connector(name: str) -> Callable[[Function], Connector]:
    """Declare a generator function as the connector ``name``; its parameters are settings.

    The parameters ``cursor``, ``now``, ``sleep`` and ``base`` are handed in and are no settings.
    """
    return lambda function: Connector(name, function)


_END = object()
"""Stands behind the last item of a stream: an item may be anything."""


def _next(stream: Iterator[Any], refusal: ExchangeError | None) -> Any:
    """Return the next item, after the last one was refused where ``refusal`` says so."""
    if refusal is None:
        return next(stream, _END)
    if not isinstance(stream, Generator):
        raise refusal
    try:
        return stream.throw(refusal)
    except StopIteration:
        return _END


class Source:
    """A connector with its settings: what the pipeline pulls from."""

    def __init__(
        self,
        of: Connector,
        settings: BaseModel,
        values: Mapping[str, Any],
        hooks: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.connector = of
        self._settings = settings
        self._values = values
        self._hooks = hooks
        self._secrets = secrets_of(settings)

    def __repr__(self) -> str:
        return f"Source({self.connector.name!r}, {self._settings!r})"

    def pull(
        self, cursor: Cursor | None = None, arrive: Callable[[], None] = lambda: None
    ) -> Generator[Pulled, None, None]:
        """Yield what is new since ``cursor``, oldest first; closing it early frees everything.

        ``arrive`` is called with each frame that the connector brings.

        An error of ours that is thrown in refuses the frame that was yielded last: a connector
        that can pass over its place goes on, any other ends with that error. Raises Transient,
        Misconfigured, Denied or Rejected only.
        """
        with map_errors(self.connector.name, self._secrets):
            stream = iter(self._call(self.connector.function, cursor=cursor))
            refusal: ExchangeError | None = None
            try:
                while (item := _next(stream, refusal)) is not _END:
                    refusal = None
                    arrive()
                    result = self._pulled(item)
                    try:
                        yield result
                    except ExchangeError as error:
                        refusal = error
            finally:
                close = getattr(stream, "close", None)
                if close is not None:
                    close()

    def check(self, *, timeout: float = CHECK_SECONDS) -> Text:
        """Try the source within ``timeout`` seconds and say what was seen; raises our errors."""
        hook = self._hooks.get("check")
        if hook is not None:
            answer: Text = self._within(timeout, lambda: self._call(hook))
            return answer
        frame = self._first(timeout)
        if frame is None:
            return Text("可以读取，目前没有数据", "can be read, nothing there now")
        names = ", ".join(frame.columns)
        return Text(f"可以读取，列：{names}", f"can be read, columns: {names}")

    @property
    def resumable(self) -> bool:
        """Whether a pull goes on at a cursor."""
        return self.connector.resumable

    @property
    def discovers(self) -> bool:
        """Whether the connector tells what it offers without pulling."""
        return "discover" in self._hooks

    def discover(self, *, timeout: float = CHECK_SECONDS) -> list[dict[str, Any]]:
        """List what the source offers, JSON-able: name and columns (name, type) of each."""
        hook = self._hooks.get("discover")
        if hook is not None:
            answer: list[dict[str, Any]] = self._within(timeout, lambda: self._call(hook))
            return answer
        frame = self._first(timeout)
        if frame is None:
            return []
        columns = [{"name": n, "type": str(t)} for n, t in frame.schema.items()]
        return [{"name": self.connector.name, "columns": columns}]

    def columns(self, *, timeout: float = CHECK_SECONDS) -> tuple[str, ...] | None:
        """Return the columns that a pull brings; None where only a pull can tell."""
        hook = self._hooks.get("columns")
        if hook is None:
            return None
        answer: tuple[str, ...] = self._within(timeout, lambda: self._call(hook))
        return answer

    def concerns(self, *, timeout: float = CHECK_SECONDS) -> tuple[Text, ...]:
        """Return what a person should look into, though the source can be read."""
        hook = self._hooks.get("concerns")
        if hook is None:
            return ()
        answer: tuple[Text, ...] = self._within(timeout, lambda: self._call(hook))
        return answer

    def rewind(self, cursor: Cursor | None, to: str, *, timeout: float = CHECK_SECONDS) -> Cursor:
        """Return the cursor from which the next pull starts at the value ``to``, inclusive.

        Raises Misconfigured where the source has no such place.
        """
        hook = self._hooks.get("rewind")
        if hook is None:
            name = self.connector.name
            raise Misconfigured(
                Text(
                    f"连接器 {name} 没有可以指定起点的游标",
                    f"the cursor of connector {name} cannot be set to a value",
                ),
                hint=Text("只有增量数据源可以改起点", "only incremental sources have a start"),
            )
        answer: Cursor = self._within(timeout, lambda: self._call(hook, cursor=cursor, to=to))
        _check_cursor(self.connector.name, answer)
        return answer

    def retry(self, cursor: Cursor | None, *, timeout: float = CHECK_SECONDS) -> Cursor | None:
        """Return the cursor without what was refused: the next pull reads that again.

        A connector that remembers nothing of the kind reads it again anyway.
        """
        hook = self._hooks.get("retry")
        if hook is None or cursor is None:
            return cursor
        answer: Cursor = self._within(timeout, lambda: self._call(hook, cursor=cursor))
        _check_cursor(self.connector.name, answer)
        return answer

    def look(self, rows: int, *, timeout: float = CHECK_SECONDS) -> Look:
        """Return the first rows of a full pull: of its first place, in one form."""

        def first() -> Look:
            import polars as pl

            frames: list[pl.DataFrame] = []
            notes: list[Note] = []
            locator, height = "", 0
            stream = self.pull()
            try:
                for pulled in islice(stream, _LOOK):
                    place = (pulled.locator, pulled.frame.schema)
                    if height and pulled.frame.width and place != (locator, frames[0].schema):
                        break
                    notes += pulled.notes
                    if pulled.frame.height or (pulled.frame.width and not frames):
                        frames = [*frames, pulled.frame] if height else [pulled.frame]
                        locator, height = pulled.locator, height + pulled.frame.height
                    if height >= rows:
                        break
            finally:
                stream.close()
            frame = pl.concat(frames).head(rows) if frames else None
            return Look(frame, locator, tuple(notes))

        answer: Look = self._within(timeout, first)
        return answer

    def preview(self, rows: int = 10, *, timeout: float = CHECK_SECONDS) -> pl.DataFrame | None:
        """Return the first rows of a full pull; None when there is nothing."""
        frame = self._first(timeout)
        return None if frame is None else frame.head(rows)

    def _first(self, timeout: float) -> pl.DataFrame | None:
        def first() -> pl.DataFrame | None:
            stream = self.pull()
            header: pl.DataFrame | None = None
            try:
                for pulled in islice(stream, _LOOK):
                    if pulled.frame.height:
                        return pulled.frame
                    if header is None and pulled.frame.width:
                        header = pulled.frame
            finally:
                stream.close()
            return header

        head: pl.DataFrame | None = self._within(timeout, first)
        return head

    def _within(self, timeout: float, work: Callable[[], Any]) -> Any:
        """Run ``work`` in a thread of its own: a library that hangs cannot be interrupted."""
        answer: queue.Queue[tuple[bool, Any]] = queue.Queue()

        def run() -> None:
            try:
                with map_errors(self.connector.name, self._secrets):
                    answer.put((True, work()))
            except Exception as error:  # noqa: BLE001 - carried over to the caller's thread
                answer.put((False, error))

        threading.Thread(target=run, daemon=True).start()
        try:
            fine, value = answer.get(timeout=timeout)
        except queue.Empty:
            raise Transient(
                Text(
                    f"连接器 {self.connector.name} 在 {timeout:g} 秒内没有回应",
                    f"connector {self.connector.name} did not answer within {timeout:g} s",
                ),
                hint=Text("请检查对方是否在运行", "check that the other side runs"),
            ) from None
        if not fine:
            raise value
        return value

    def _call(self, function: Callable[..., Any], **extra: Any) -> Any:
        """Call a function of the author's with the settings and givens that it names.

        ``settings`` stands for all settings at once, where none has that name.
        """
        whole = {"settings": self._settings}
        values = {**whole, **self._settings.__dict__, **self._values, **extra}
        names = inspect.signature(function).parameters
        return function(**{name: values[name] for name in names})

    def _pulled(self, item: Any) -> Pulled:
        import polars as pl

        name = self.connector.name
        result = item if isinstance(item, Pulled) else Pulled(item)
        if not isinstance(result.frame, pl.DataFrame):
            kind = type(result.frame).__name__
            raise Rejected(
                Text(
                    f"连接器 {name} 给出的是 {kind}，不是 polars.DataFrame",
                    f"connector {name} yielded {kind}, not polars.DataFrame",
                ),
                hint=_AUTHOR,
            )
        if result.cursor is not None:
            _check_cursor(name, result.cursor)
        return result


_LOOK = 100
"""Frames looked at before a source counts as empty."""


def _check_cursor(name: str, cursor: Cursor) -> None:
    try:
        size = len(json.dumps(cursor, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise Rejected(
            Text(
                f"连接器 {name} 的游标不是 JSON：{original(error).zh}",
                f"cursor of {name} is no JSON: {original(error).en}",
            ),
            hint=_AUTHOR,
        ) from error
    if size > MAX_CURSOR_BYTES:
        raise Misconfigured(
            Text(
                f"连接器 {name} 的游标有 {size} 字节，上限 {MAX_CURSOR_BYTES}",
                f"cursor of {name} takes {size} bytes, the limit is {MAX_CURSOR_BYTES}",
            ),
            hint=Text("请把该数据源拆成几个", "split this source into several"),
        )
