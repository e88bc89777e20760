"""Tables in markup: web pages (also as .xls), web archives (MHTML), Excel 2003 XML, OpenDocument.

Parsed by lxml without entities and network. Text stands there as it is shown.
"""

from __future__ import annotations

import email
import email.policy
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from exchange.connectors.files.book import Book, Range, Sheet, SheetRow, kept
from exchange.connectors.files.encoding import encoding_of
from exchange.connectors.files.formats import UNIT_BEHIND, Format, Odd, Value, shown_number
from exchange.connectors.files.xls import protected
from exchange.connectors.files.xlsx import UNCALCULATED, damaged
from exchange.connectors.files.xml import attribute, document, elements, local
from exchange.errors import Rejected
from exchange.text import Text

_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([A-Za-z0-9_-]+)""", re.IGNORECASE)
_BLOCKS = {"br", "p", "div", "li", "tr"}
_MAX_SPAN = 65_536
_MAX_CELLS = 20_000_000
_NAMES = {"gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030"}
_SPREADSHEET_2003 = b"urn:schemas-microsoft-com:office:spreadsheet"
_FORMATS_2003 = {
    "General Number": "General", "General Date": "yyyy-mm-dd h:mm", "Short Date": "yyyy-mm-dd",
    "Long Date": "yyyy-mm-dd", "Medium Date": "yyyy-mm-dd", "Short Time": "h:mm",
    "Long Time": "h:mm:ss", "Medium Time": "h:mm", "Currency": "#,##0.00", "Fixed": "0.00",
    "Standard": "#,##0.00", "Percent": "0.00%", "Scientific": "0.00E+00",
    "Yes/No": '"Yes";"Yes";"No"', "True/False": '"TRUE";"TRUE";"FALSE"',
    "On/Off": '"On";"On";"Off"', "Euro Currency": "#,##0.00",
}  # fmt: skip
_NO_DAY = {date(1899, 12, 30), date(1899, 12, 31)}
"""The days that a time alone is written with."""
_CODE = re.compile(r"^-?0[0-9]+$|[A-Za-z\u4e00-\u9fff]|[0-9]-[0-9]")
_DRESSED = re.compile(r"[\s,¥￥$€£%()+\-−]|CN¥|CNY|RMB|元")


def read_markup(data: bytes) -> Book:
    """Open what begins like markup; raises Rejected when there is no table in it."""
    top = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if top[:20].lower().startswith((b"mime-version", b"content-type", b"from:")):
        return _web_archive(data)
    if _SPREADSHEET_2003 in data[:65_536]:
        return _excel_2003(data)
    if top.startswith(b"<?xml") and not re.search(
        rb"<(!doctype\s+)?(html|table)", top, re.IGNORECASE
    ):
        raise Rejected(
            Text("是 XML 文件，不是表格", "an XML file, no table"),
            hint=Text("请另存为 xlsx 或 CSV", "save it as xlsx or CSV"),
        )
    return _web_page(data, "")


# --- web pages --------------------------------------------------------------------------------


def _web_archive(data: bytes) -> Book:
    message = email.message_from_bytes(data, policy=email.policy.default)
    for part in message.walk():
        if part.get_content_type() == "text/html":
            body = part.get_payload(decode=True)
            if isinstance(body, bytes) and b"<t" in body.lower():
                return _web_page(body, part.get_content_charset() or "")
    raise _no_table()


def page_root(data: bytes, charset: str) -> Any:
    """Parse a web page, decoded by its mark, its declaration or its bytes; None: it is empty.

    Raises Rejected for bytes that are not in the declared encoding.
    """
    from lxml import etree, html

    text = _decoded(data, charset)
    # A declaration of an encoding would contradict what was decoded already.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    parser = html.HTMLParser(no_network=True, huge_tree=False, remove_comments=True)
    try:
        return html.document_fromstring(text, parser=parser) if text.strip() else None
    except etree.ParserError:
        return None


def table_grid(table: Any) -> tuple[list[tuple[int, SheetRow]], list[Range]]:
    """Return the rows of a table of a web page, with their numbers, and what is merged."""
    return _grid(_html_rows(table))


def _web_page(data: bytes, charset: str) -> Book:
    root = page_root(data, charset)
    if root is None:
        raise _no_table()
    tables = [table for table in root.iter("table") if not list(table.iterancestors("table"))]
    if not tables:
        raise _no_table()
    sheets = []
    for number, table in enumerate(tables, start=1):
        rows, merges = table_grid(table)
        sheets.append(Sheet(f"web page {number}", kept(rows), _constant(merges)))
    return Book(sheets)


def _decoded(data: bytes, charset: str) -> str:
    """Decode by mark, declaration or bytes; raises Rejected when that does not fit."""
    declared = charset or next((m.decode() for m in _CHARSET.findall(data[:8192])), "")
    name = declared.lower()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        name = "utf-16"
    elif data.startswith(b"\xef\xbb\xbf"):
        name = "utf-8-sig"
    elif not name or name in ("iso-8859-1", "us-ascii", "ascii"):
        name = encoding_of(data) or "utf-8"
    try:
        return data.decode(_NAMES.get(name, name))
    except (UnicodeDecodeError, LookupError) as error:
        raise Rejected(
            Text(f"网页的内容不是它写明的编码 {name}", f"the page is not in the encoding {name}"),
            hint=Text("请用浏览器打开后另存为 xlsx", "open it and save it as xlsx"),
        ) from error


def _html_rows(table: Any) -> Iterator[tuple[int, list[tuple[Value | None, int, int, int]]]]:
    number = 0
    for row in table.iter("tr"):
        if next(row.iterancestors("table")) is not table:
            continue
        number += 1
        cells: list[tuple[Value | None, int, int, int]] = []
        unseen = _is_hidden(row)
        for cell in row.iterchildren("td", "th"):
            value = _html_value(cell)
            if unseen:
                value = Odd(_text_of(value), "a hidden row")
            cells.append((value, -1, _span(cell, "rowspan"), _span(cell, "colspan")))
        yield number, cells


def _html_value(cell: Any) -> Value:
    """Return what a browser shows of a cell, or the number or text that Excel wrote beside it."""
    text = _cell_text(cell)
    if next(cell.iter("table"), None) is not None:
        return Odd(text, "a table within a cell")
    if any(next(cell.iter(name), None) is not None for name in ("input", "select", "textarea")):
        return Odd(text, "a form field within a cell")
    number = (cell.get("x:num") or "").strip()
    if number:
        try:
            return _as_shown(float(number), text)
        except ValueError:
            return Odd(text, f"the number {number[:40]}")
    return cell.get("x:str") or text


def _is_hidden(element: Any) -> bool:
    style = re.sub(r"\s", "", element.get("style") or "").lower()
    return "hidden" in element.attrib or "display:none" in style


def _text_of(value: Value) -> str:
    return value.text if isinstance(value, Odd) else str(value)


def _span(cell: Any, name: str) -> int:
    text = (cell.get(name) or "").strip()
    return min(max(1, int(text)), _MAX_SPAN) if text.isdecimal() else 1


def _cell_text(cell: Any) -> str:
    """Return a cell's text as a browser shows it: white space joined, breaks kept."""
    pieces: list[str] = []

    def walk(element: Any) -> None:
        if not isinstance(element.tag, str) or element.tag in ("script", "style"):
            return
        if element is not cell and _is_hidden(element):
            return
        if element.tag == "br" or (element.tag in _BLOCKS and any(map(str.strip, pieces))):
            pieces.append("\n")
        pieces.append(re.sub(r"[ \t\r\n\f]+", " ", element.text or ""))
        for child in element:
            walk(child)
            pieces.append(re.sub(r"[ \t\r\n\f]+", " ", child.tail or ""))

    walk(cell)
    text = "".join(pieces).replace("\xa0", " ")
    return "\n".join(" ".join(line.split(" ")).strip(" ") for line in text.split("\n")).strip()


def _no_table() -> Rejected:
    return Rejected(
        Text("是网页，其中没有表格", "a web page, no table in it"),
        hint=Text("请用浏览器或 Excel 打开，另存为 xlsx", "open it in Excel and save it as xlsx"),
    )


# --- Excel 2003 XML ---------------------------------------------------------------------------


def _excel_2003(data: bytes) -> Book:
    root = document(data)
    formats = {
        attribute(style, "ID"): Format(
            _FORMATS_2003.get(code := attribute(shape, "Format") or "General", code)
        )
        for style in root.iter("{*}Style")
        for shape in style.iterchildren("{*}NumberFormat")
    }
    sheets = []
    for sheet in root.iterchildren("{*}Worksheet"):
        hidden = any((e.text or "").startswith("SheetHidden") or (e.text or "").startswith(
            "SheetVeryHidden") for e in sheet.iter("{*}Visible"))  # fmt: skip
        rows, merges = _grid(_rows_2003(sheet, formats))
        name = attribute(sheet, "Name") or ""
        sheets.append(Sheet(name, kept(rows), _constant(merges), not hidden))
    if not sheets:
        raise damaged("no worksheet")
    return Book(sheets)


def _rows_2003(
    sheet: Any, formats: Mapping[str | None, Format]
) -> Iterator[tuple[int, list[tuple[Value | None, int, int, int]]]]:
    number = 0
    for row in (
        r for table in sheet.iterchildren("{*}Table") for r in table.iterchildren("{*}Row")
    ):
        number = _index(row, number + 1)
        cells = []
        for cell in row.iterchildren("{*}Cell"):
            down = int(attribute(cell, "MergeDown") or 0) + 1
            across = int(attribute(cell, "MergeAcross") or 0) + 1
            value = _value_2003(cell, formats)
            cells.append((value, _index(cell, 0) - 1, min(down, _MAX_SPAN), min(across, _MAX_SPAN)))
        yield number, cells


def _index(element: Any, otherwise: int) -> int:
    text = attribute(element, "Index")
    return int(text) if text is not None else otherwise


def _value_2003(  # noqa: PLR0911 - a line for each kind
    cell: Any, formats: Mapping[str | None, Format]
) -> Value | None:
    data = next(cell.iterchildren("{*}Data"), None)
    if data is None:
        return Odd("", UNCALCULATED) if attribute(cell, "Formula") else None
    text = "".join(data.itertext())
    kind = attribute(data, "Type")
    if kind == "Error":
        return Odd(text, f"the error {text}")
    if kind == "Boolean":
        return "TRUE" if text == "1" else "FALSE"
    if kind == "DateTime":
        moment = datetime.fromisoformat(text)
        if moment.date() in _NO_DAY:
            return f"{moment:%H:%M:%S}"
        return moment.date() if moment.time() == datetime.min.time() else moment
    if kind == "Number":
        shape = formats.get(attribute(cell, "StyleID")) or formats.get("Default")
        return (shape or Format("General")).show(float(text))
    return text or None


# --- OpenDocument -----------------------------------------------------------------------------


def read_ods(archive: zipfile.ZipFile) -> Book:
    """Open an OpenDocument spreadsheet (ODF 1.3 part 3, §9); raises Rejected for a locked one."""
    names = archive.namelist()
    if "META-INF/manifest.xml" in names and b"encryption-data" in _small(
        archive, "META-INF/manifest.xml"
    ):
        raise protected()
    sheets = []
    hidden: set[str] = set()
    with archive.open("content.xml") as stream:
        for element in elements(stream, "style", "table"):
            if local(element) == "style":
                shows = [attribute(e, "display") for e in element if local(e) == "table-properties"]
                if "false" in shows:
                    hidden.add(attribute(element, "name") or "")
            elif element.getparent() is not None and local(element.getparent()) == "spreadsheet":
                rows, merges = _grid(_ods_rows(element))
                visible = attribute(element, "style-name") not in hidden
                name = attribute(element, "name") or ""
                sheets.append(Sheet(name, kept(rows), _constant(merges), visible))
    return Book(sheets)


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as stream:
        return stream.read(1 << 24)


def _ods_rows(table: Any) -> Iterator[tuple[int, list[tuple[Value | None, int, int, int]]]]:
    number = 1
    for row in table.iter("{*}table-row"):
        cells: list[tuple[Value | None, int, int, int]] = []
        column = 0
        for cell in row:
            kind = local(cell)
            if kind not in ("table-cell", "covered-table-cell"):
                continue
            repeated = _count(cell, "number-columns-repeated")
            value = _ods_value(cell) if kind == "table-cell" else None
            if value not in (None, ""):
                down = _count(cell, "number-rows-spanned")
                across = _count(cell, "number-columns-spanned")
                if repeated > _MAX_SPAN:
                    raise damaged(f"a cell repeated {repeated} times")
                cells += [(value, column + n, down, across) for n in range(repeated)]
            column += repeated
        repeated = _count(row, "number-rows-repeated")
        if cells:
            if repeated * len(cells) > _MAX_CELLS:
                raise damaged(f"a row repeated {repeated} times")
            yield from ((number + n, cells) for n in range(repeated))
        number += repeated


def _count(element: Any, name: str) -> int:
    text = attribute(element, name) or "1"
    return max(1, int(text)) if text.isdecimal() else 1


def _ods_value(cell: Any) -> Value | None:  # noqa: PLR0911 - a line for each kind
    shown = "\n".join(_ods_text(p) for p in cell if local(p) == "p")
    kind, formula = attribute(cell, "value-type"), attribute(cell, "formula")
    kinds = {value for key, value in cell.attrib.items() if key.endswith("}value-type")}
    if "error" in kinds or (formula and re.match(r"^(#[A-Z/0]+[!?]?$|Err:\d+|#N/A)", shown)):
        return Odd(shown, f"the error {shown}")
    if kind is None:
        return Odd("", UNCALCULATED) if formula else shown or None
    if kind == "boolean":
        return "TRUE" if attribute(cell, "boolean-value") == "true" else "FALSE"
    if kind == "date":
        moment = datetime.fromisoformat(attribute(cell, "date-value") or shown)
        return moment.date() if moment.time() == datetime.min.time() else moment
    if kind == "time":
        return _ods_time(attribute(cell, "time-value") or "") or shown
    if kind in ("float", "percentage", "currency"):
        return _as_shown(float(attribute(cell, "value") or "nan"), shown)
    return (attribute(cell, "string-value") or shown) or None


def _ods_text(element: Any) -> str:
    """Return the text of a paragraph; repeated blanks and tabs stand there as elements."""
    out = element.text or ""
    for child in element:
        name = local(child)
        if name == "s":
            out += " " * _count(child, "c")
        elif name == "tab":
            out += "\t"
        elif name == "line-break":
            out += "\n"
        elif name != "annotation":
            out += _ods_text(child)
        out += child.tail or ""
    return out


def _ods_time(text: str) -> str:
    found = re.match(r"^PT(\d+)H(\d+)M(\d+)(?:[.,]\d+)?S$", text)
    return f"{int(found[1]):02}:{int(found[2]):02}:{int(found[3]):02}" if found else ""


def _as_shown(number: float, shown: str) -> str | Odd:
    """Return the number, or the code that its format makes of it."""
    shown = UNIT_BEHIND.sub("", shown)
    bare = _DRESSED.sub("", shown)
    if _CODE.search(shown.strip()) and not re.match(r"^-?[0-9.]+E[+-]?[0-9]+$", bare):
        return shown.strip()
    return shown_number(number)


# --- what they share --------------------------------------------------------------------------


def _grid(
    rows: Iterator[tuple[int, list[tuple[Value | None, int, int, int]]]],
) -> tuple[list[tuple[int, SheetRow]], list[Range]]:
    """Place cells: each has (value, column or -1 for the next free one, rows, columns)."""
    taken: dict[int, int] = {}
    out: list[tuple[int, SheetRow]] = []
    merges: list[Range] = []
    total = 0
    for number, cells in rows:
        line: SheetRow = []
        column = 0
        for value, at, down, across in cells:
            if at >= 0:
                column = at
            else:
                while taken.get(column, 0) >= number:
                    column += 1
            total += across + max(0, column - len(line))
            if total > _MAX_CELLS:
                raise damaged(f"more than {_MAX_CELLS} cells")
            line.extend([None] * (column + 1 - len(line)))
            line[column] = value
            if down > 1 or across > 1:
                merges.append(Range(number, column, number + down - 1, column + across - 1))
            if down > 1:
                taken.update(dict.fromkeys(range(column, column + across), number + down - 1))
            column += across
        out.append((number, line))
    return out, merges


def _constant(merges: list[Range]) -> Callable[[], list[Range]]:
    return lambda: merges
