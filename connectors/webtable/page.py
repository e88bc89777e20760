"""What stands on a web page: forms, the table that is meant, its records, counts and links."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exchange.connect import Misconfigured, Rejected, Text
from exchange.connectors.files.formats import Odd
from exchange.connectors.files.markup import page_root, table_grid
from exchange.connectors.rest.records import Row

_SPACE = re.compile(r"\s+")
_EMPTY = re.compile(
    r"无(相关|匹配|符合条件的?)?(数据|记录|结果|信息)|没有|未查询到|no (data|record|result)",
    re.IGNORECASE,
)
_MAX_TABLES = 200
_SHOWN = 60
_RESERVED = ("_row", "_defect")


@dataclass(frozen=True, slots=True)
class Form:
    """A form: where it leads, its fields as the page fills them, and those left to a person."""

    action: str
    post: bool
    fields: Mapping[str, str]
    texts: tuple[str, ...]
    """Names of fields for text, in order."""
    passwords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WebRecords:
    """The records of a table, by the columns that were asked for."""

    rows: list[Row]
    notes: tuple[str, ...]


class WebPage:
    """A parsed page."""

    def __init__(self, data: bytes, charset: str, place: Text) -> None:
        """Parse; raises Rejected for bytes in another encoding, or for no page at all."""
        try:
            root = page_root(data, charset)
        except Rejected as error:
            what = Text(f"{place.zh}：{error.what.zh}", f"{place.en}: {error.what.en}")
            raise Rejected(what, hint=Text("请设置 encoding", "set encoding")) from error
        if root is None:
            raise Rejected(
                Text(f"{place.zh} 是空的", f"{place.en} is empty"),
                hint=Text("请用浏览器打开该地址核对", "open the address in a browser"),
            )
        self._root = root
        self.place = place

    @property
    def title(self) -> str:
        """The title of the page, short."""
        title = self._root.findtext(".//title") or ""
        return _squeezed(title)[:_SHOWN]

    def login_form(self) -> Form | None:
        """Return the first form that asks for a password; None: there is none."""
        for form in self._root.iter("form"):
            found = _form(form)
            if found.passwords:
                return found
        return None

    def asks_for_password(self) -> bool:
        """Whether anything on the page asks for a password."""
        return any(_kind(item) == "password" for item in self._root.iter("input"))

    def number(self, pattern: str) -> int | None:
        """Return the number at ``{}`` of a pattern such as ``共{}条``; None: there is none.

        White space does not count.
        """
        before, _, after = (_SPACE.sub("", part) for part in pattern.partition("{}"))
        text = _SPACE.sub("", "".join(self._root.itertext()))
        match = re.search(re.escape(before) + r"([\d,]{1,15})" + re.escape(after), text)
        return int(match[1].replace(",", "")) if match and match[1].strip(",") else None

    def link(self, text: str) -> str | None:
        """Return the address of the link with this text; empty: it is there and leads nowhere.

        Raises Misconfigured where it is a script.
        """
        shown = _squeezed(text)
        for item in self._root.iter("a"):
            if _squeezed("".join(item.itertext())) != shown:
                continue
            address = (item.get("href") or "").strip()
            if address.lower().startswith("javascript:") or item.get("onclick"):
                raise Misconfigured(
                    Text(
                        f"{self.place.zh} 的“{shown}”是脚本，不是链接",
                        f"{self.place.en}: {shown} is a script, not a link",
                    ),
                    hint=Text(
                        "请在浏览器里看翻页时发出的请求，改用 paging: page",
                        "look at what a browser sends, and use paging: page",
                    ),
                )
            return "" if address in ("", "#") else address
        return None

    def headers(self) -> list[list[str]]:
        """Return the titles of each table that looks like one with records."""
        found = []
        for table in self._tables():
            rows = _cells(table)
            lines = ([t for cell in row if (t := _squeezed(_text(cell)))] for row in rows)
            titles = next((line for line in lines if len(line) > 1), [])
            if titles:
                found.append(titles)
        return found

    def table(self, columns: Sequence[str]) -> WebRecords:
        """Return the records of the table with exactly these columns.

        Raises Misconfigured where no table, or more than one, has them; Rejected for a row of
        another shape.
        """
        wanted = [_squeezed(name) for name in columns]
        fitting = []
        for table in self._tables():
            rows = _cells(table)
            at = next((n for n, row in enumerate(rows) if _is_header(row, wanted)), None)
            if at is not None:
                fitting.append((rows, at))
        if len(fitting) != 1:
            raise self._no_table(wanted, len(fitting))
        rows, at = fitting[0]
        return self._records(rows[at], rows[at + 1 :], wanted)

    def _tables(self) -> list[Any]:
        """Return the tables with no table in them: others lay out the page."""
        tables = [
            t for t in self._root.iter("table") if next(t.iterdescendants("table"), None) is None
        ]
        return tables[:_MAX_TABLES]

    def _records(self, header: list[Any], body: list[list[Any]], wanted: list[str]) -> WebRecords:
        titles = [_squeezed(_text(cell)) for cell in header]
        order = [titles.index(name) for name in wanted if name]
        untitled = [place for place, title in enumerate(titles) if not title and "" not in wanted]
        rows: list[Row] = []
        notes: list[str] = []
        for number, line in enumerate(body, start=1):
            texts = [_text(cell) for cell in line]
            filled = [text for text in texts if text]
            if not filled:
                continue
            if len(line) < len(header) and len(filled) == 1:
                notes.append(filled[0][:_SHOWN])
                continue
            if len(line) != len(header):
                raise self._other_row(number, len(line), len(header), "")
            # A box to tick stands in a column that nobody asked for.
            cells = [line[place] for place in order]
            odd = next((c.defect for c in cells if isinstance(c, Odd) and c.defect), "")
            if odd:
                raise self._other_row(number, len(line), len(header), odd)
            if any(texts[place] for place in untitled):
                raise self._untitled(number)
            rows.append([texts[place] or None for place in order])
        if notes and not rows and not any(_EMPTY.search(note) for note in notes):
            raise self._no_records(notes[0])
        return WebRecords(rows, tuple(notes))

    def _no_table(self, wanted: list[str], count: int) -> Misconfigured:
        if count:
            return Misconfigured(
                Text(
                    f"{self.place.zh} 有 {count} 个表头相同的表",
                    f"{self.place.en} has {count} tables with the same header",
                ),
                hint=Text("请换一个只有一个表的页面", "name a page with one table only"),
            )
        # What shares no title may be a record: an error does not show it.
        headers = [header for header in self.headers() if set(header) & set(wanted)]
        near = max(headers, key=lambda header: len(set(header) & set(wanted)), default=[])
        more = [name for name in near if name not in wanted]
        less = [name for name in wanted if name not in near]
        shown = "、".join(near)[:200] or "-"
        what = f"{self.title and self.title + '：'}"
        return Misconfigured(
            Text(
                f"{self.place.zh} 没有这些列的表（{what}最接近的表头：{shown}；"
                f"缺少 {'、'.join(less) or '-'}，多出 {'、'.join(more) or '-'}）",
                f"{self.place.en} has no table with these columns ({what}nearest header: {shown}; "
                f"missing {', '.join(less) or '-'}, more {', '.join(more) or '-'})",
            ),
            hint=Text(
                "页面改版：核对后修改 columns（exchange connector discover 列出表头），"
                "并与目录对照",
                "the page has changed: look at it, then edit columns (`exchange connector "
                "discover` lists the headers), and compare with the catalog",
            ),
        )

    def _other_row(self, number: int, cells: int, width: int, odd: str) -> Rejected:
        why = odd and f" ({odd})"
        return Rejected(
            Text(
                f"{self.place.zh} 第 {number} 行有 {cells} 格，表头有 {width} 格{why}",
                f"{self.place.en}, row {number} has {cells} cells, its header {width}{why}",
            ),
            hint=Text("请用浏览器打开该页核对", "open the page in a browser and compare"),
        )

    def _untitled(self, number: int) -> Misconfigured:
        return Misconfigured(
            Text(
                f"{self.place.zh} 第 {number} 行在没有标题的列中有内容",
                f"{self.place.en}, row {number} has text in a column without a title",
            ),
            hint=Text(
                '不需要该列时，在 columns 中写一个空名称 ""',
                'where the column is not needed, add an empty name "" to columns',
            ),
        )

    def _no_records(self, text: str) -> Rejected:
        return Rejected(
            Text(
                f"{self.place.zh} 的表里没有记录，只有：{text}",
                f"{self.place.en} has no record, only: {text}",
            ),
            hint=Text("请用浏览器打开该页核对", "open the page in a browser and compare"),
        )


def check_columns(columns: Sequence[str]) -> None:
    """Raise Misconfigured for names that cannot be columns."""
    names = [_squeezed(name) for name in columns if name]
    wrong = [name for name in names if name in _RESERVED or names.count(name) > 1]
    if wrong:
        raise Misconfigured(
            Text(
                f"columns 中的 {wrong[0]} 重复或为保留名",
                f"{wrong[0]} in columns stands twice or is reserved",
            ),
            hint=Text("请修改该数据源的配置", "edit the settings of this source"),
        )


def _cells(table: Any) -> list[list[Any]]:
    """Return the rows of a table as cells; what is merged downwards stands in each row."""
    rows, merges = table_grid(table)
    lines = [list(line) for _, line in rows]
    at = {number: place for place, (number, _) in enumerate(rows)}
    for merge in merges:
        source = lines[at[merge.top]]
        value = source[merge.left] if merge.left < len(source) else None
        for number in range(merge.top + 1, merge.bottom + 1):
            if number in at:
                line = lines[at[number]]
                line.extend([None] * (merge.left + 1 - len(line)))
                line[merge.left] = value
    return lines


def _is_header(row: list[Any], wanted: list[str]) -> bool:
    """Whether a row names exactly the columns that are wanted; untitled ones do not count."""
    titles = [title for cell in row if (title := _squeezed(_text(cell)))]
    return sorted(titles) == sorted(name for name in wanted if name)


def _form(form: Any) -> Form:
    fields: dict[str, str] = {}
    texts, passwords = [], []
    for item in form.iter("input", "select", "textarea"):
        name, kind = item.get("name"), _kind(item)
        if not name or kind in ("submit", "button", "image", "reset", "file"):
            continue
        if kind in ("checkbox", "radio") and item.get("checked") is None:
            continue
        if kind == "password":
            passwords.append(name)
        elif kind == "text":
            texts.append(name)
        fields[name] = _value(item)
    action = form.get("action") or ""
    return Form(
        action, (form.get("method") or "").lower() == "post", fields, tuple(texts), tuple(passwords)
    )


def _kind(item: Any) -> str:
    if item.tag != "input":
        return str(item.tag)
    kind = (item.get("type") or "text").lower()
    return "text" if kind in ("email", "tel", "search", "number", "url") else kind


def _value(item: Any) -> str:
    if item.tag == "select":
        chosen = [o for o in item.iter("option") if o.get("selected") is not None]
        options = chosen or list(item.iter("option"))[:1]
        return "".join((o.get("value") or o.text or "") for o in options[:1])
    return str((item.text if item.tag == "textarea" else item.get("value")) or "")


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return cell.text if isinstance(cell, Odd) else str(cell)


def _squeezed(text: str) -> str:
    return _SPACE.sub("", text)
