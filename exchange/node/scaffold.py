"""Makes a new node: a folder with settings, a starter catalog, test seals and a test province.

Everything in it is for trying and for pilots: the keys are software keys, the authority is
made here. A real node gets its seals from the seal maker and its secrets from the province.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from exchange.catalog.loader import load as load_catalog
from exchange.catalog.model import Catalog
from exchange.durable import write_file
from exchange.errors import Misconfigured
from exchange.node.prefecture import Prefecture, province_of
from exchange.seal.crypto.der import to_pem
from exchange.seal.crypto.suites import Suite, suite
from exchange.seal.eseal.folder import write_seal_folder
from exchange.seal.eseal.pilot import (
    AUTHORITY,
    SEAL_YEARS,
    make_unit_seal,
    password_of,
    write_authority,
)
from exchange.seal.eseal.test_authority import Authority, make_authority
from exchange.text import Text

STARTER_CATALOG = """\
# 政务数据目录。一个字段写作：字段名: 中文名 类型[!] [S1–S4] [when 条件] [-- 说明]
# The catalog. A field is written: name: title type[!] [S1-S4] [when condition] [-- doc]
# ! 必填 required · exchange catalog check · docs/catalog.md
version: "1"
area: {code: 232700, name: 大兴安岭地区}

departments:
  data: {code: 11232700MB1C531139, name: 大兴安岭地区营商环境建设监督局}

tables:
  company_status: {title: 企业状态, values: {1: 存续, 2: 注销, 3: 吊销}}

resources:
  companies:
    code: 307001/1
    title: 企业基本信息
    department: data
    share: 1
    cycle: daily
    sensitivity: S1
    key: [uscc]
    fields:
      - {uscc: 统一社会信用代码 uscc!, name: 企业名称 text(200)!}
      - {founded: 成立日期 date!, capital: "注册资本(万元) decimal(16,6)"}
      - {status: 企业状态 code(company_status)!}
    rules:
      founded_past: founded <= today | 成立日期不晚于今天 | founded not after today
"""

_SETTINGS = """\
# 节点配置 settings of this node; every key: docs/settings.md
node: {{code: "{code}", name: {name}}}
catalog: catalog.yaml
trust: [seals/root.pem]
seals:
{seals}
upstream:                      # 上级平台 the province; here: the test province beside this file
  endpoint: {endpoint}
  rid: {rid}
  sid: {sid}
  secret: file:secrets/province.txt
  trust: [province/seal/root.pem]
sources:{sources}
"""

_PROVINCE = """\
# 模拟省级平台 test province: exchange receiver serve --config province/exchange.yaml
node: {{code: "{code}", name: {name}（模拟）}}
receiver:
  port: {port}
  folder: received
  store: sqlite:///received.db
  sid: {sid}
  province: "{province}"
  clients:
    - rid: {rid}
      secret: "file:../secrets/province.txt"
      departments: [{departments}]
      resources: any
      seals: any
      roots: any
      origins: ["exchange/{area}"]
  seal: {{folder: seal, password: "file:password.txt"}}
  trust: [../seals/root.pem]
"""

_NO_SOURCES = """ {}
#  companies:
#    resource: companies
#    connector: sql
#    every: 15m
#    with: {url: env:COMPANIES_DB, table: companies, cursor_column: updated_at}
"""


def new_node(
    folder: Path,
    *,
    now: datetime,
    entropy: Callable[[int], bytes],
    catalog: Path | None = None,
    prefecture: Prefecture | None = None,
    sources: str = _NO_SOURCES,
    port: int = 8470,
    suite_id: str = "sm2-sm3",
) -> None:
    """Make a node in ``folder``, which is new or empty; raises Misconfigured otherwise.

    Its catalog is a copy of ``catalog``, or the starter's, for ``prefecture`` if there is one.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Misconfigured(
            Text(f"目录 {folder} 不是空的", f"the folder {folder} is not empty"),
            hint=Text("请指定一个新目录", "name a new folder"),
        )
    folder.mkdir(parents=True, exist_ok=True)
    starter = STARTER_CATALOG if prefecture is None else starter_catalog(prefecture)
    content = starter.encode() if catalog is None else catalog.read_bytes()
    write_file(folder / "catalog.yaml", content)
    new_catalog = load_catalog(folder / "catalog.yaml")
    cipher = suite(suite_id)
    secret = base64.b64encode(entropy(24)).decode()
    write_file(folder / "secrets" / "province.txt", f"{secret}\n".encode(), mode=0o600)
    names = _department_seals(folder, new_catalog, cipher, now, entropy)
    province_code, province_name = province_of(new_catalog.area.code)
    province = make_authority("模拟省级根证书（测试）", cipher, now=now, entropy=entropy)
    _seal(
        folder / "province" / "seal",
        province,
        "模拟省级数据共享平台（测试）",
        f"{province_code}00000001",
        now=now,
        entropy=entropy,
    )
    rid, sid = f"rid-{new_catalog.area.code}", f"s_{new_catalog.area.code}000000_1"
    write_file(
        folder / "province" / "exchange.yaml",
        _PROVINCE.format(
            code=province_code,
            name=province_name,
            province=province_code[:2],
            port=port,
            sid=sid,
            rid=rid,
            departments=", ".join(unit.code for unit in new_catalog.departments.values()),
            area=new_catalog.area.code,
        ).encode(),
    )
    seals = "\n".join(
        f'  {name}: {{folder: seals/{name}, password: "file:password.txt"}}' for name in names
    )
    write_file(
        folder / "exchange.yaml",
        _SETTINGS.format(
            code=new_catalog.area.code,
            name=new_catalog.area.name,
            seals=seals,
            endpoint=f"http://127.0.0.1:{port}",
            rid=rid,
            sid=sid,
            sources=sources,
        ).encode(),
    )


def starter_catalog(prefecture: Prefecture) -> str:
    """Write the starter's catalog for a prefecture and its departments."""
    area, _, rest = STARTER_CATALOG.partition("area: ")
    _, _, below = rest.partition("\ntables:")
    lines = [
        f"area: {{code: {prefecture.area.code}, name: {prefecture.area.name}}}",
        "",
        "departments:",
    ]
    for key, (code, name) in prefecture.departments.items():
        lines.append(f"  {key}: {{code: {code}, name: {name}}}")
    return area + "\n".join(lines) + "\n\ntables:" + below


def _department_seals(
    folder: Path,
    catalog: Catalog,
    cipher: Suite,
    now: datetime,
    entropy: Callable[[int], bytes],
) -> list[str]:
    """Make a seal for each department under one authority, and its root as trust anchor."""
    root = make_authority("政务电子印章根证书（测试）", cipher, now=now, entropy=entropy)
    for number, department in enumerate(catalog.departments.values(), start=1):
        _seal(
            folder / "seals" / department.id,
            root,
            department.name,
            f"{catalog.area.code}{number:08d}",
            now=now,
            entropy=entropy,
            unit=department.code,
        )
    write_authority(folder / "seals" / AUTHORITY, root, password_of(entropy))
    write_file(folder / "seals" / "root.pem", to_pem("CERTIFICATE", root.certificate))
    return list(catalog.departments)


def _seal(
    folder: Path,
    root: Authority,
    name: str,
    es_id: str,
    *,
    now: datetime,
    entropy: Callable[[int], bytes],
    unit: str = "",
) -> None:
    signer, eseal = make_unit_seal(
        root,
        name,
        es_id,
        now=now,
        entropy=entropy,
        years=SEAL_YEARS,
        unit=unit,
    )
    write_seal_folder(
        folder,
        key=signer.key,
        certificate=signer.certificate,
        eseal=eseal,
        chain=(),
        root=root.certificate,
        password=password_of(entropy),
        keep_password=True,
    )
