"""From page to page: what to ask for next, and when it is the end. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal
from urllib.parse import urljoin

from exchange.connect import ExchangeError, Misconfigured, Rejected, Text, Transient
from exchange.connectors.rest.json_path import MISSING, Path, walk
from exchange.connectors.rest.records import Row

PagingKind = Literal["none", "page", "offset", "cursor", "link"]
_LINK = re.compile(r'<([^>]*)>\s*((?:;\s*[\w*]+\s*=\s*(?:"[^"]*"|[^",;\s]+)\s*)*)')
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^",;\s]+))', re.IGNORECASE)
_MAX_TOKEN = 8_192


@dataclass(frozen=True, slots=True)
class PagePosition:
    """Which page comes next, and what came before it in this pull."""

    next: int | str
    """Number of the page, offset of the record, token or address; empty: the first."""
    pages: int = 0
    rows: int = 0
    last: str = ""
    """Digest of the last page."""
    tail: str = ""
    """Digest of the last record, which is asked for again where pages go by offset."""
    most: int = 0
    """The greatest total that the service has told in this pull."""

    def to_json(self) -> dict[str, Any]:
        """Return it as part of a cursor."""
        return asdict(self)


class Shifted(Transient):
    """Pages shifted while they were read: only a new start finds what was passed over."""


@dataclass(frozen=True, slots=True)
class Page:
    """What an answer held, as far as paging needs it."""

    rows: Sequence[Row]
    document: Any
    headers: Mapping[str, str]
    url: str
    total: int | None
    count: int
    """Records in the answer."""
    counted: tuple[str, int] | None = None
    """Where an answer without paging says that there are more, and how many."""


@dataclass(frozen=True, slots=True)
class PagingOptions:
    """The service's names of what paging sends and reads."""

    kind: PagingKind
    page: str
    size: str
    offset: str
    token: str
    next_path: Path | None
    page_size: int
    first_page: int
    end: Literal["empty", "short"]
    max_pages: int


@dataclass
class Paging:
    """The state of one pull's way through the pages."""

    names: PagingOptions
    seen: set[str] = field(default_factory=set)
    """Digests of pages and tokens that came before: a loop is an error."""

    def start(self) -> PagePosition:
        """Return the position of the first page."""
        first = {"page": self.names.first_page, "offset": 0}.get(self.names.kind, "")
        return PagePosition(first)

    def parameters(self, position: PagePosition) -> dict[str, str]:
        """Return what the request for a page has to say."""
        names = self.names
        sent: dict[str, str] = {}
        if names.size and names.kind in ("page", "offset", "cursor"):
            sent[names.size] = str(names.page_size)
        if names.kind == "page":
            sent[names.page] = str(position.next)
        elif names.kind == "offset":
            # With a tail the last record comes again: it shows whether the list has shifted.
            sent[names.offset] = str(int(position.next) - bool(position.tail))
        elif names.kind == "cursor" and position.next:
            sent[names.token] = str(position.next)
        return sent

    def new_rows(self, position: PagePosition, rows: Sequence[Row], place: Text) -> Sequence[Row]:
        """Return a page's records without the one that came before; raises Shifted."""
        if not position.tail or page_digest(rows) == position.last:
            return rows
        if not rows or page_digest(rows[:1]) != position.tail:
            raise shifted(place)
        return rows[1:]

    def after(self, position: PagePosition, page: Page, place: Text) -> PagePosition | None:
        """Return the position behind a page; None when it was the last.

        Raises Rejected for a page that came before, Misconfigured for what leads nowhere.
        """
        digest = page_digest(page.rows)
        if page.rows and digest in self.seen | {position.last}:
            raise _repeated(place, self.names.kind)
        self.seen.add(digest)
        behind = replace(
            position,
            pages=position.pages + 1,
            rows=position.rows + len(page.rows),
            last=digest,
            tail=self._tail(position, page),
            most=max(position.most, page.total or 0),
        )
        following = self._following(behind, page, place)
        if following is None:
            return None
        if behind.pages >= self.names.max_pages:
            raise _too_many(self.names.max_pages)
        return replace(behind, next=following)

    def _tail(self, position: PagePosition, page: Page) -> str:
        if self.names.kind != "offset" or page.count <= 1:
            return ""  # pages of one record would never go on
        return page_digest(page.rows[-1:]) if page.rows else position.tail

    def _following(self, behind: PagePosition, page: Page, place: Text) -> int | str | None:
        names = self.names
        match names.kind:
            case "none":
                return None
            case "cursor":
                return self._token(page, behind, place)
            case "link":
                return self._link(page, behind, place)
        over = page.total is not None and behind.rows >= page.total
        short = names.end == "short" and page.count < names.page_size
        if not page.rows or over or short:
            return None
        if names.kind == "page":
            return int(behind.next) + 1
        return int(behind.next) + len(page.rows)

    def _token(self, page: Page, behind: PagePosition, place: Text) -> str | None:
        assert self.names.next_path is not None  # noqa: S101 - the settings were checked
        token = self._read(page, self.names.next_path, behind, place)
        return self._once(token, place) if token else None

    def _link(self, page: Page, behind: PagePosition, place: Text) -> str | None:
        if self.names.next_path is not None:
            link = self._read(page, self.names.next_path, behind, place)
        else:
            link = next_link(page.headers.get("link", ""))
        if not link:
            return None
        try:
            address = urljoin(page.url, link)
        except ValueError as error:
            raise _no_next(place) from error
        return self._once(address, place)

    def _read(self, page: Page, path: Path, behind: PagePosition, place: Text) -> str:
        """Read what leads to the next page; empty: there is none."""
        value = walk(page.document, path)
        full = page.count >= self.names.page_size
        if value is MISSING and not (behind.pages == 1 and full):
            return ""  # Many services leave it out on the last page.
        if value is None or value is False:
            return ""
        if not isinstance(value, str) or len(value) > _MAX_TOKEN:
            raise _no_next(place)
        return str(value)

    def _once(self, token: str, place: Text) -> str:
        digest = "next " + _digest(token)
        if digest in self.seen:
            raise _repeated(place, self.names.kind)
        self.seen.add(digest)
        return token


def page_digest(rows: Sequence[Row]) -> str:
    """Return a short digest of a page's records."""
    return _digest(repr(rows))


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def next_link(header: str) -> str:
    """Return the address with ``rel=next`` of a Link header (RFC 8288); empty: none."""
    for target, parameters in _LINK.findall(header):
        match = _REL.search(parameters)
        if match and "next" in (match[1] or match[2] or "").lower().split():
            return str(target)
    return ""


def shifted(place: Text) -> Shifted:
    """Return the error for a list that is another one than before."""
    return Shifted(
        Text(
            f"{place.zh} 与前一页接不上：数据在读取时变动",
            f"{place.en} does not follow the page before: the records changed while they were read",
        ),
        hint=Text(
            "下次从头读取；若总是如此，offset 可能不按条计数：改用 paging: page",
            "the next pull starts again; where it lasts, the offset does not count records: "
            "use paging: page",
        ),
    )


def _repeated(place: Text, kind: PagingKind) -> ExchangeError:
    asked = {
        "page": Text("page_param", "page_param"),
        "offset": Text("offset_param", "offset_param"),
    }.get(kind, Text("next_path、next_param", "next_path and next_param"))
    return Rejected(
        Text(
            f"{place.zh} 与前面某页相同：对方忽略了翻页参数，或超出末页仍返回末页",
            f"{place.en} is a page that came before: the service ignores the parameter, "
            "or gives its last page for ever",
        ),
        hint=Text(
            f"请检查 {asked.zh}；对方给出总数时设置 total，否则设置 end: short",
            f"check {asked.en}; set total where the service counts, or end: short",
        ),
    )


def _no_next(place: Text) -> ExchangeError:
    return Misconfigured(
        Text(
            f"{place.zh} 没有给出可用的下一页",
            f"{place.en} names no next page that can be asked for",
        ),
        hint=Text("请检查 next_path 和 paging", "check next_path and paging"),
    )


def _too_many(limit: int) -> ExchangeError:
    return Misconfigured(
        Text(f"超过 {limit} 页", f"more than {limit} pages"),
        hint=Text("请调大 page_size 或 max_pages", "raise page_size or max_pages"),
    )
