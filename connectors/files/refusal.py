"""Files that were refused: the errors, and how the cursor of a folder remembers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from exchange.connect import ExchangeError, Misconfigured, Rejected, Text
from exchange.connectors.files.book import MAX_WORKBOOK_BYTES
from exchange.connectors.files.folder import Stat

MAX_REFUSALS = 64
"""Refused files remembered; further ones are read again by each pull."""
_MAX_TEXT = 300
"""Characters of each text that are kept: all refusals and all files fit a cursor."""
_MAX_COLUMNS = 1_000
_MAX_TOLD = 20
"""Refused files named in one error."""
_KINDS = {kind.__name__: kind for kind in (Rejected, Misconfigured)}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file was refused, and what it was: it is not read again until it changes."""

    size: int
    time: int
    digest: str
    """SHA-256 of the content, hex; empty for a file that is too large to be read."""
    reading: str
    """Digest of the settings, and version of the program, that it was read with."""
    kind: str
    what: tuple[str, str]
    hint: tuple[str, str]
    columns: tuple[str, ...] = ()
    """The header that whoever pulls refused; empty where the file itself could not be read."""
    locator: str = ""
    """Where that header stands."""

    @classmethod
    def make(
        cls,
        error: Rejected,
        *,
        stat: Stat,
        digest: str,
        reading: str,
        columns: Sequence[str] = (),
        locator: str = "",
    ) -> Self | None:
        """Note a refusal; None for one that says nothing about the content, or is too long."""
        kind = type(error).__name__
        if kind not in _KINDS or sum(map(len, columns)) > _MAX_COLUMNS:
            return None
        what, hint = (tuple(text[:_MAX_TEXT] for text in pair) for pair in (error.what, error.hint))
        return cls(*stat, digest, reading, kind, what, hint, tuple(columns), locator)  # type: ignore[arg-type]

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Read it back from a cursor."""
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{**given, **lists})

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        known = asdict(self)
        return known | {name: list(known[name]) for name in ("what", "hint", "columns")}

    def error(self) -> ExchangeError:
        """Return the error once more."""
        return _KINDS[self.kind](Text(*self.what), hint=Text(*self.hint))


def one_error(failed: Sequence[ExchangeError]) -> ExchangeError:
    """Return one error for all files that failed, of the kind that needs a person most."""
    refused = [error for error in failed if isinstance(error, Rejected)]
    errors = refused or failed
    if len(errors) == 1:
        return errors[0]
    more = len(errors) - _MAX_TOLD
    shown = errors[:_MAX_TOLD]
    zh = "；".join(error.what.zh for error in shown) + (f"；另有 {more} 个" if more > 0 else "")
    en = "; ".join(error.what.en for error in shown) + (f"; {more} more" if more > 0 else "")
    hints = list(dict.fromkeys(error.hint for error in shown))
    return type(errors[0])(
        Text(f"{len(errors)} 个文件没有读取：{zh}", f"{len(errors)} files were not read: {en}"),
        hint=Text("；".join(h.zh for h in hints), "; ".join(h.en for h in hints)),
    )


def panic_error(name: str, error: BaseException) -> Rejected:
    """Return the error for a file at which a library gives up."""
    return Rejected(
        Text(f"{name} 无法解析（原文：{error}）"[:500], f"{name} cannot be parsed: {error}"[:500]),
        hint=Text("请重新导出该文件", "export the file again"),
    )


def too_large(name: str) -> Rejected:
    """Return the error for a workbook that is too large to be read."""
    limit = MAX_WORKBOOK_BYTES >> 20
    return Rejected(
        Text(f"{name} 超过 {limit} MiB", f"{name} has more than {limit} MiB"),
        hint=Text("请拆分，或另存为 CSV", "split it, or save it as CSV"),
    )
