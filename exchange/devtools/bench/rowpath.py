"""The row-at-a-time path, as one would write it without columns: the bench's comparison.

psycopg dict rows from a server-side cursor → a pydantic model with the checks of the catalog's
``bench_person``, every reason kept → fastavro container of the resource's schema → one
signature per batch. It does less than a node: no log, no tree over the records, no delivery.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, Final, Literal

import fastavro
from psycopg import sql
from psycopg.rows import dict_row
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from exchange.catalog.identifiers import is_resident_id, is_uscc
from exchange.devtools.bench.measure import Stopwatch, Usage
from exchange.devtools.bench.person_table import RESOURCE
from exchange.devtools.bench.postgres_connection import database
from exchange.devtools.synthetic import COUNTIES

BATCH_ROWS: Final = 8_192
Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class RowPath:
    """Rows read, accepted and rejected; ``reasons`` counts faults by the model's error type.

    ``size`` is bytes of the signed containers.
    """

    rows: int
    accepted: int
    rejected: int
    reasons: Mapping[str, int]
    batches: int
    size: int
    usage: Usage


def _must(test: Callable[[str], bool], fault: str) -> AfterValidator:
    def check(value: str) -> str:
        if not test(value):
            raise ValueError(fault)
        return value

    return AfterValidator(check)


class Person(BaseModel):
    """A record of ``bench_person``: the same checks as examples/bench/catalog.yaml."""

    cd_operation: Literal["I"] = "I"
    record_no: Annotated[str, Field(max_length=20)]
    name: Annotated[str, Field(max_length=50)]
    resident_id: Annotated[str, _must(is_resident_id, "resident_id")]
    uscc: Annotated[str, _must(is_uscc, "uscc")] | None
    company: Annotated[str, Field(max_length=100)] | None
    sex: Literal["0", "1", "2", "9"]
    region_code: Annotated[str, _must(COUNTIES.__contains__, "region")]
    mobile: Annotated[str, Field(pattern="^1[3-9][0-9]{9}$")]
    birth_date: date
    valid_from: date
    valid_until: date | None
    amount: Annotated[Decimal, Field(max_digits=14, decimal_places=2)]
    status: Literal["01", "02", "03", "09"]
    is_legal: bool
    updated_at: AwareDatetime

    @model_validator(mode="after")
    def _rules(self, info: ValidationInfo[date]) -> Person:
        broken = [name for name, holds in self._outcomes(info.context) if not holds]
        if broken:
            raise ValueError(", ".join(broken))
        return self

    def _outcomes(self, today: date) -> Iterator[tuple[str, bool]]:
        yield "uscc_of_legal", not self.is_legal or self.uscc is not None
        yield "dates", self.valid_until is None or self.valid_from <= self.valid_until
        yield "amount", self.amount >= 0
        yield "born", self.birth_date <= today
        yield "birth_of_id", self.resident_id[6:14] == self.birth_date.strftime("%Y%m%d")
        yield (
            "sex_of_id",
            self.sex not in "12" or (int(self.resident_id[16]) % 2 == int(self.sex) % 2),
        )


def run(
    conninfo: str,
    *,
    schema: Mapping[str, Any],
    sign: Sign,
    today: date,
    table: str = RESOURCE,
    limit: int | None = None,
) -> RowPath:
    """Take the table, or its first ``limit`` rows, through the row-at-a-time path.

    ``schema`` is the resource's Avro schema, ``sign`` makes the signature of a batch's bytes.
    Raises what :func:`database` raises.
    """
    avro_schema = fastavro.parse_schema(dict(schema))
    select = sql.SQL("SELECT * FROM {} LIMIT %s").format(sql.Identifier(table))
    reasons: Counter[str] = Counter()
    rows = accepted = batches = size = 0
    watch = Stopwatch()
    with (
        database(conninfo) as connection,
        connection.cursor("rowpath", row_factory=dict_row) as cursor,
    ):
        cursor.itersize = BATCH_ROWS
        cursor.execute(select, [limit])
        keys: set[str] = set()
        source = iter(cursor)
        while batch := list(islice(source, BATCH_ROWS)):
            rows += len(batch)
            people = [person for row in batch if (person := _check(row, keys, today, reasons))]
            container = io.BytesIO()
            records = (person.model_dump() for person in people)
            fastavro.writer(container, avro_schema, records, codec="zstandard")
            data = container.getvalue()
            size += len(data) + len(sign(data))
            accepted += len(people)
            batches += 1
    return RowPath(rows, accepted, rows - accepted, dict(reasons), batches, size, watch.usage())


def _check(
    row: Mapping[str, Any], keys: set[str], today: date, reasons: Counter[str]
) -> Person | None:
    """Return the record, or None with its reasons counted."""
    try:
        person = Person.model_validate(row, context=today)
    except ValidationError as error:
        reasons.update(f"{'.'.join(map(str, e['loc']))}:{e['type']}" for e in error.errors())
        return None
    if person.record_no in keys:
        reasons["record_no:unique"] += 1
        return None
    keys.add(person.record_no)
    return person
