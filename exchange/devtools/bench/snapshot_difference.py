"""Snapshot difference of many keys: ``python -m exchange.devtools.bench.snapshot_difference``.

A CSV file of 8 columns is pulled whole, changed in 1 % of its rows (a third each is gone, changed,
new), and pulled again. Each pull runs in a process of its own: time, processor time and peak
memory are of everything from the file to the frames of changes, reading included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

_CATALOG: Final = """\
version: "1"
area: {code: 232700, name: 大兴安岭地区}
departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}
resources:
  cases:
    code: 307001/1
    title: 办件
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [no]
    fields:
      - {no: 编号 text(32)!, name: 名称 text(50)!, state: 状态 text(20), issued: 日期 date}
      - amount: 金额 decimal(14,2)
      - {phone: 电话 text(20), town: 乡镇 text(50), note: 备注 text(200)}
"""
_GONE, _CHANGED, _NEW = 7, 9, 11
_COLUMNS: Final = "no,name,state,issued,amount,phone,town,note\n"


def write_csv(path: Path, rows: int, *, changed: bool) -> None:
    """Write the file; of every 300 rows one is gone, one changed and one new where ``changed``."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(_COLUMNS)
        for number in range(rows):
            place = number % 300
            if changed and place == _GONE:
                continue
            state = "已办结" if changed and place == _CHANGED else "办理中"
            stream.write(_line(number, state))
            if changed and place == _NEW:
                stream.write(_line(rows + number, state))


def _line(number: int, state: str) -> str:
    return (
        f"{number:018d},企业名称{number}有限公司,{state},2026-{number % 12 + 1:02}-11,"
        f"{number}.50,139{number:08d},加格达奇区第{number % 97}居委会,登记备注第{number}号\n"
    )


def pull(folder: Path) -> dict[str, Any]:
    """Pull once in this process; return what it took."""
    from exchange.catalog.loader import load
    from exchange.connect import find
    from exchange.pipeline.difference import DifferenceSource

    source = find("files").open({"folder": str(folder / "drops"), "settle": 0}, lambda name: name)
    cases = load(folder / "catalog.yaml").resource("cases")
    place = folder / "cursor.json"
    cursor = json.loads(place.read_text()) if place.is_file() else None
    operations: Counter[str] = Counter()
    began, used = time.perf_counter(), time.process_time()
    compared = DifferenceSource("cases", source, cases, folder / "state", 0.3, os.urandom)
    for pulled in compared.pull(cursor):
        cursor = pulled.cursor
        if pulled.frame.height:
            operations.update(pulled.frame["cd_operation"].to_list())
    took = {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu": round(time.process_time() - used, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "operations": dict(operations),
    }
    place.write_text(json.dumps(cursor))
    return took


def main() -> None:
    """Make the file, and pull it three times: new, changed, as it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pull", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pull is not None:
        sys.stdout.write(json.dumps(pull(arguments.pull)) + "\n")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "drops").mkdir()
        (folder / "catalog.yaml").write_text(_CATALOG, encoding="utf-8")
        for what, changed in (("new", False), ("1 % changed", True), ("unchanged", True)):
            write_csv(folder / "drops" / "a.csv", arguments.rows, changed=changed)
            command = [sys.executable, "-m", __spec__.name, "--pull", name]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - ours
            sys.stdout.write(f"{what}: {answer.stdout.decode()}")


if __name__ == "__main__":
    main()
