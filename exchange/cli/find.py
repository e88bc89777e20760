"""Command find: from a key to the batches that have its records, their receipts and evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.invocation import Invocation
from exchange.cli.options import Json, alone, bilingual
from exchange.cli.output import USAGE
from exchange.cli.verify import record_key, write
from exchange.errors import Rejected
from exchange.text import Text, beijing

if TYPE_CHECKING:
    from exchange.node.node import Node
    from exchange.seal.batch.build import Batch

PAGE = 16
"""Batches read from the log at once: at most 8 MiB each."""

app = alone()


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """One version of a record: where it was sealed, and the province's receipt, if any."""

    batch: Batch
    data: bytes
    index: int
    receipt_no: str
    receipt: bytes | None

    @property
    def batch_no(self) -> str:
        """The batch's number."""
        return self.batch.statement.batch_no

    def as_dict(self) -> dict[str, object]:
        """Return what a program reads; no value of the record."""
        return {
            "batch_no": self.batch_no,
            "row": self.index + 1,
            "sealed_at": self.batch.statement.sealed_at,
            "receipt_no": self.receipt_no,
        }


@app.command(
    help=bilingual("按主键查找记录的批次、回执与存证包", "find a record's batches and receipts")
)
def find(
    context: typer.Context,
    resource: Annotated[str, typer.Argument(help=bilingual("资源", "resource"))],
    *,
    key: Annotated[
        list[str], typer.Option(help=bilingual("字段=值，可多个", "FIELD=VALUE, repeatable"))
    ],
    to: Annotated[
        Path | None,
        typer.Option(help=bilingual("存证包写入该目录", "write evidence packages here")),
    ] = None,
    as_json: Json = False,
) -> int:
    """List every sealed version of the records with these values, newest first."""
    from exchange.seal.batch.statement import moment

    call: Invocation = context.obj
    output = call.output(as_json=as_json)
    values = record_key(output, key, None)
    if values is None:
        return USAGE
    with call.open_node() as node:
        known = node.catalog.resource(resource)
        unknown = values.keys() - {field.name for field in known.fields}
        if unknown:
            raise _no_field(sorted(unknown), [field.name for field in known.fields])
        records = sorted(
            _sealed(node, resource, values),
            key=lambda record: (record.batch.statement.sealed_at, record.batch_no, record.index),
            reverse=True,
        )
        paths = [] if to is None else list(_packages(node, resource, records, to))
    none = output.t("没有封签过这样的记录", "no such record was ever sealed")
    answer = {"records": [record.as_dict() for record in records], "files": list(map(str, paths))}
    output.answer(answer, None if records else none)
    if not records:
        return Rejected.exit_code
    one_key = values.keys() >= set(known.key)
    output.table(
        output.t("封签过的版本，由新到旧", "sealed versions, newest first")
        if one_key
        else output.t("封签过的记录，由新到旧", "sealed records, newest first"),
        [output.t(*pair) for pair in _HEADS],
        (
            (
                record.batch_no,
                record.index + 1,
                beijing(moment(record.batch.statement.sealed_at)),
                record.receipt_no or "-",
            )
            for record in records
        ),
    )
    if not one_key:
        missing = [name for name in known.key if name not in values]
        output.inform(
            f"未给出主键的全部字段（缺 {'、'.join(missing)}），可能是多条不同的记录",
            f"the key is not whole ({', '.join(missing)} missing): these may be different records",
        )
    if paths and not output.as_json:
        output.answer(None, "\n".join(map(str, paths)))
    if to is None:
        output.inform("加 --to 目录 写出存证包", "--to FOLDER writes the evidence packages")
    else:
        output.inform("验证：exchange verify 文件", "verify: exchange verify FILE")
    return 0


_HEADS = (("批次号", "batch"), ("序号", "row"), ("封签时间", "sealed at"), ("回执号", "receipt"))


def _sealed(node: Node, resource: str, values: Mapping[str, str]) -> Iterator[SealedRecord]:
    """Look through all that the log has sealed of a resource."""
    from exchange.log import sealed_topic
    from exchange.pipeline.messages import SealedEntry
    from exchange.seal.batch.build import open_batch
    from exchange.seal.batch.prove import rows_with

    name = sealed_topic(resource)
    partitions = next((topic.partitions for topic in node.log.topics([name])), 0)
    for partition in range(partitions):
        offset, end = node.log.bounds(name, partition)
        while offset < end:
            entries = node.log.read(name, partition, offset, max_entries=PAGE)
            if not entries:
                break
            offset = entries[-1].offset + 1
            for sealed in filter(None, map(SealedEntry.of, entries)):
                batch = open_batch(sealed.data)
                indices = rows_with(batch, values)
                receipt = node.store.receipts.get(resource, sealed.batch_no) if indices else None
                for index in indices:
                    yield SealedRecord(
                        batch,
                        sealed.data,
                        index,
                        "" if receipt is None else receipt.receipt_no,
                        None if receipt is None else receipt.content,
                    )


def _packages(
    node: Node, resource: str, records: list[SealedRecord], folder: Path
) -> Iterator[Path]:
    """Write the evidence package of each version that has a receipt."""
    from exchange.durable import make_folder
    from exchange.evidence.log import LogReader
    from exchange.evidence.package import make_package
    from exchange.seal.batch.prove import prove

    log = LogReader.at(node.settings.resolve(node.settings.evidence.folder))
    make_folder(folder)
    for record in records:
        if record.receipt is not None:
            proof = prove(record.data, row=record.index + 1)
            path = folder / f"{resource}-{record.batch_no}-{record.index + 1}.evidence"
            write(path, make_package(log, proof=proof, receipt=record.receipt))
            yield path


def _no_field(unknown: list[str], fields: list[str]) -> Rejected:
    names, known = ", ".join(unknown), ", ".join(fields)
    return Rejected(
        Text(f"资源没有数据项 {names}", f"the resource has no field {names}"),
        hint=Text(f"可用：{known}", f"its fields: {known}"),
    )
