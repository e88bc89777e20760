"""Small workbooks made by hand, for what no writer of workbooks writes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

Row = Sequence[Any]
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def minimal_xlsx(
    rows: Sequence[Row] | Mapping[str, Sequence[Row]],
    *,
    more: str = "",
    merges: Sequence[str] = (),
    hidden: Sequence[str] = (),
    formats: Sequence[int] = (0,),
) -> bytes:
    """Make a workbook; ``more`` is XML behind the rows of each sheet."""
    sheets = rows if isinstance(rows, Mapping) else {"S": rows}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _package(archive, "workbook.xml", [f"sheet{n}.xml" for n in range(1, len(sheets) + 1)])
        text = "".join(
            f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"'
            + (' state="hidden"/>' if name in hidden else "/>")
            for n, name in enumerate(sheets, start=1)
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{text}</sheets></workbook>',
        )
        styles = "".join(f'<xf numFmtId="{number}"/>' for number in formats)
        archive.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{_MAIN}"><cellXfs>{styles}</cellXfs></styleSheet>',
        )
        tail = "".join(f'<mergeCell ref="{ref}"/>' for ref in merges)
        for number, content in enumerate(sheets.values(), start=1):
            body = "".join(_row(row, cells) for row, cells in enumerate(content, start=1))
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f'<worksheet xmlns="{_MAIN}"><sheetData>{body}{more}</sheetData>'
                + (f"<mergeCells>{tail}</mergeCells>" if tail else "")
                + "</worksheet>",
            )
    return out.getvalue()


def _package(archive: zipfile.ZipFile, workbook: str, sheets: Sequence[str]) -> None:
    suffix = workbook.rpartition(".")[2]
    archive.writestr("[Content_Types].xml", "<Types/>")
    archive.writestr(
        "_rels/.rels",
        f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="r" '
        f'Type="{_OFFICE}/officeDocument" Target="xl/{workbook}"/></Relationships>',
    )
    relations = [
        f'<Relationship Id="rId{n}" Type="{_OFFICE}/worksheet" Target="worksheets/{name}"/>'
        for n, name in enumerate(sheets, start=1)
    ]
    relations.append(f'<Relationship Id="s" Type="{_OFFICE}/styles" Target="styles.{suffix}"/>')
    archive.writestr(
        f"xl/_rels/{workbook}.rels",
        f'<Relationships xmlns="{_RELATIONS}">{"".join(relations)}</Relationships>',
    )


def _row(number: int, cells: Row) -> str:
    out = []
    for column, cell in enumerate(cells):
        at = f"{chr(ord('A') + column)}{number}"
        if isinstance(cell, str):
            out.append(f'<c r="{at}" t="inlineStr"><is><t>{escape(cell)}</t></is></c>')
        elif cell is not None:
            out.append(f'<c r="{at}"><v>{cell}</v></c>')
    return f'<row r="{number}">{"".join(out)}</row>'


def ods(rows: Sequence[Row], *, shown: Mapping[tuple[int, int], str]) -> bytes:
    """Make an OpenDocument spreadsheet; ``shown`` is what a number's format makes of it."""
    body = ""
    for row, cells in enumerate(rows):
        line = ""
        for column, cell in enumerate(cells):
            text = shown.get((row, column), str(cell))
            kind = 'office:value-type="string"'
            if not isinstance(cell, str):
                kind = f'office:value-type="float" office:value="{cell}"'
            line += f"<table:table-cell {kind}><text:p>{escape(text)}</text:p></table:table-cell>"
        body += f"<table:table-row>{line}</table:table-row>"
    names = "urn:oasis:names:tc:opendocument:xmlns:"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{names}office:1.0" '
            f'xmlns:table="{names}table:1.0" xmlns:text="{names}text:1.0"><office:body>'
            f'<office:spreadsheet><table:table table:name="S">{body}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return out.getvalue()


def xlsb(
    rows: Sequence[Row],
    *,
    formats: Mapping[tuple[int, int], str],
    errors: Mapping[tuple[int, int], int],
) -> bytes:
    """Make a binary workbook ([MS-XLSB] §2.4) with errors behind its rows."""
    codes = ["General", *dict.fromkeys(formats.values())]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _package(archive, "workbook.bin", ["sheet1.bin"])
        sheet = struct.pack("<II", 0, 1) + _wide("rId1") + _wide("S")
        archive.writestr(
            "xl/workbook.bin",
            _record(131) + _record(143) + _record(156, sheet) + _record(144) + _record(132),
        )
        items = [_record(44, struct.pack("<H", 164 + n) + _wide(c)) for n, c in enumerate(codes)]
        styles = [
            _record(47, struct.pack("<HH", 0, 164 + n) + bytes(12)) for n in range(len(codes))
        ]
        count = struct.pack("<I", len(codes))
        archive.writestr(
            "xl/styles.bin",
            b"".join(
                [
                    *(_record(278), _record(615, count), *items, _record(616), _record(617, count)),
                    *(*styles, _record(618), _record(279)),
                ]
            ),
        )
        height = max([len(rows), *(row + 1 for row, _ in errors)])
        width = max(len(cells) for cells in rows)
        body = _record(129) + _record(148, struct.pack("<4I", 0, height - 1, 0, width - 1))
        body += _record(145)
        for row in range(height):
            body += _record(0, struct.pack("<III", row, 0, 0) + bytes(9))
            for column, cell in enumerate(rows[row] if row < len(rows) else [None] * width):
                style = codes.index(formats.get((row, column), "General"))
                head = struct.pack("<II", column, style)
                if (row, column) in errors:
                    body += _record(3, head + bytes([errors[row, column]]))
                elif isinstance(cell, str):
                    body += _record(6, head + _wide(cell))
                elif isinstance(cell, int):
                    body += _record(2, head + struct.pack("<i", cell << 2 | 2))
                elif cell is not None:
                    body += _record(5, head + struct.pack("<d", cell))
        archive.writestr("xl/worksheets/sheet1.bin", body + _record(146) + _record(130))
    return out.getvalue()


def _wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def _record(kind: int, body: bytes = b"") -> bytes:
    head = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
    size = len(body)
    length = b""
    while True:
        length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
        size >>= 7
        if not size:
            return head + length + body


def biff5(rows: Sequence[Sequence[str]], *, codepage: int | None) -> bytes:
    """Make an Excel 5 workbook of texts in GBK ([XLS] BIFF 5, without a compound file)."""

    def record(kind: int, body: bytes = b"") -> bytes:
        return struct.pack("<HH", kind, len(body)) + body

    head = record(0x0809, struct.pack("<HHHH", 0x0500, 0x0005, 0, 0))
    if codepage is not None:
        head += record(0x0042, struct.pack("<H", codepage))
    size = len(head) + 4 + 8 + 4
    head += record(0x0085, struct.pack("<IBBB", size, 0, 0, 1) + b"S") + record(0x000A)
    body = record(0x0809, struct.pack("<HHHH", 0x0500, 0x0010, 0, 0))
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            text = cell.encode("gbk")
            body += record(0x0204, struct.pack("<HHHH", row, column, 0, len(text)) + text)
    return head + body + record(0x000A)
