from __future__ import annotations

from datetime import date
from io import BytesIO

import fastavro
import polars as pl

from exchange.catalog.avro import avro_schema, schema_text
from exchange.catalog.loader import loads
from exchange.seal.batch.avro import parse_schema
from exchange.seal.batch.columns import encode
from exchange.validate.claimed_keys import ClaimedKeys
from exchange.validate.deletes import blank_deletes
from exchange.validate.validator import compile_resource

CATALOG = loads(
    """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
tables:
  kind: {title: 类别, values: [甲, 乙]}
resources:
  all_types:
    code: 307001/1
    title: 各种类型
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [id]
    fields:
      - {id: 编号 text(10)!, name: 名称 text(10)!, count: 数量 integer!}
      - {paid: "金额 decimal(14,2)!", day: 日期 date!, at: 时间 datetime!}
      - {open: 开放 boolean!, rate: 比率 double!, note: 备注 text(9)}
"""
)


def test_a_delete_needs_its_key_only_and_still_goes_on_the_wire() -> None:
    resource = CATALOG.resources["all_types"]
    frame = pl.DataFrame(
        {
            "id": ["1", "2"],
            "name": ["甲", None],
            "count": ["3", None],
            "paid": ["1.50", None],
            "day": ["2026-01-02", None],
            "at": ["2026-01-02 03:04:05", None],
            "open": ["是", None],
            "rate": ["0.5", None],
            "note": [None, None],
            "cd_operation": ["I", "D"],
        },
        schema_overrides={"note": pl.String},
    )
    checked = compile_resource(resource, CATALOG.tables).check(
        frame, today=date(2026, 1, 3), claimed=ClaimedKeys()
    )
    assert checked.rejected.is_empty()
    encoded = encode(blank_deletes(checked.accepted, resource), parse_schema(schema_text(resource)))
    assert encoded.operations == (1, 0, 1)
    record = bytes(encoded.data[encoded.offsets[1] : encoded.offsets[2]])
    read = fastavro.schemaless_reader(BytesIO(record), avro_schema(resource), None)
    assert isinstance(read, dict)
    assert (read["cd_operation"], read["id"], read["name"], read["note"]) == ("D", "2", "", None)
