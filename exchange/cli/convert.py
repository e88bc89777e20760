"""Command convert: a sealed batch in a format that other programs read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import alone, bilingual
from exchange.cli.verify import read, write

app = alone()


class OutputFormat(StrEnum):
    """Names of the formats, as they are typed."""

    AVRO_DEFLATE = "avro-deflate"
    PARQUET = "parquet"
    CSV = "csv"
    XLSX = "xlsx"


@app.command(
    help=bilingual(
        "把封签批次转换为其他程序可读的格式（副本不带印章）", "copy a batch for other programs"
    )
)
def convert(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=bilingual("封签批次", "sealed batch"))],
    *,
    to: Annotated[OutputFormat, typer.Option(help=bilingual("格式", "format"))],
    out: Annotated[
        Path | None,
        typer.Option(help=bilingual("输出文件（默认在原文件旁）", "default: beside FILE")),
    ] = None,
    reveal: Annotated[
        bool,
        typer.Option("--reveal", help=bilingual("写出明文（默认隐去）", "write values in clear")),
    ] = False,
) -> None:
    """Write a copy of the records of a sealed batch; the original keeps the seal."""
    from exchange.evidence.convert import SUFFIXES
    from exchange.evidence.convert import convert as copy

    call: Invocation = context.obj
    output = call.output()
    target = out or file.with_name(file.name.removesuffix(".avro") + SUFFIXES[to])
    write(target, copy(read(file), to, reveal=reveal))
    output.answer(None, str(target))
    if not reveal:
        output.inform("值已隐去；--reveal 写出明文", "values are hidden: --reveal writes them")
    output.inform(
        f"副本不带印章；第 N 条的证明：exchange prove {file} --row N",
        f"the copy bears no seal; to prove its row N: exchange prove {file} --row N",
    )
