"""`exchange init` for any prefecture: settings, catalog, seals and province belong together."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.catalog.loader import load as load_catalog
from exchange.errors import Misconfigured
from exchange.node.prefecture import PROVINCES, Prefecture, province_of
from exchange.node.scaffold import new_node
from exchange.seal.eseal.drawing import draw_round
from exchange.seal.eseal.folder import read_eseal
from exchange.seal.eseal.structures import read_seal
from exchange.settings import load

DATA = "11350100MB1F600171=福州市大数据发展管理委员会"
OTHER = "11232700MB1C531139=福州市市场监督管理局"


def test_everything_of_a_node_is_of_its_prefecture(tmp_path: Path) -> None:
    prefecture = Prefecture.of("350100", "福州市", [DATA, OTHER])
    folder = tmp_path / "node"
    new_node(folder, now=datetime.now(UTC), entropy=os.urandom, prefecture=prefecture)
    catalog, settings = load_catalog(folder / "catalog.yaml"), load(folder / "exchange.yaml")
    assert (catalog.area.code, catalog.area.name) == ("350100", "福州市")
    assert (settings.node.code, settings.node.name) == ("350100", "福州市")
    names = [unit.name for unit in catalog.departments.values()]
    assert names == ["福州市大数据发展管理委员会", "福州市市场监督管理局"]
    for number, (key, unit) in enumerate(catalog.departments.items(), start=1):
        info = read_seal(read_eseal(folder / "seals" / key)).info
        assert (info.name, info.es_id) == (unit.name, f"350100{number:08d}")
        assert info.picture.data == draw_round(unit.name)
    province = load(folder / "province" / "exchange.yaml")
    assert (province.node.code, province.node.name) == ("350000", "福建省（模拟）")
    assert read_seal(read_eseal(folder / "province" / "seal")).info.es_id == "35000000000001"
    assert province.receiver is not None
    assert province.receiver.province == "35"
    (client,) = province.receiver.clients
    assert client.departments == tuple(unit.code for unit in catalog.departments.values())
    for text in ("232700", "大兴安岭", "黑龙江"):
        for path in ("catalog.yaml", "exchange.yaml", "province/exchange.yaml"):
            shown = (folder / path).read_text("utf-8").replace(OTHER.partition("=")[0], "")
            assert text not in shown, path


@pytest.mark.parametrize(
    ("code", "name", "departments", "what"),
    [
        ("", "福州市", [DATA], "要一起写"),
        ("350100", "", [DATA], "要一起写"),
        ("350100", "福州市", [], "要一起写"),
        ("3501", "福州市", [DATA], "不是行政区划代码"),
        ("３５０１００", "福州市", [DATA], "不是行政区划代码"),
        ("990100", "福州市", [DATA], "没有以 99 开头"),
        ("350100", "福州市: {a", [DATA], "不可用"),
        ("350100", "福州市", ["福州市大数据发展管理委员会"], "不是“信用代码=部门名称”"),
        ("350100", "福州市", [DATA.replace("171=", "172=")], "不是“信用代码=部门名称”"),
        ("350100", "福州市", [DATA + "\n}"], "不可用"),
        ("350100", "福州市", [DATA, DATA], "写了两次"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    code: str, name: str, departments: list[str], what: str
) -> None:
    with pytest.raises(Misconfigured) as caught:
        Prefecture.of(code, name, departments)
    assert what in caught.value.what.zh


def test_every_province_is_known() -> None:
    assert len(PROVINCES) == 34
    assert province_of("510400") == ("510000", "四川省")
