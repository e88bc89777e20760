"""The records of the demo's departments: invented, realistic, the same for the same seed.

Every generator returns text columns, named as the catalog names its fields, as clean as the
catalog asks; then about one record in a hundred is spoilt (:mod:`exchange.devtools.demo.dirt`).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from exchange.catalog.model import Catalog, Resource
from exchange.devtools import synthetic
from exchange.devtools.demo.dirt import (
    PLACEHOLDER,
    Dirt,
    Fault,
    duplicate,
    fault,
    full_width,
    plant,
    wrong_check_digit,
)
from exchange.devtools.synthetic import Random, pick

SEED: Final = 232_700
DIRTY_SHARE: Final = 0.01
FOREVER: Final = "2099-12-31"
"""长期 in 双公示 data."""

_LAST_DAY: Final = "2026-06-30"
"""No record is younger, whatever the day of the demo."""


@dataclass(frozen=True, slots=True)
class SourceRecords:
    """Records as a department's system shows them, all text.

    ``dirt`` tells for each row what was planted in it (:class:`Dirt`), null where it is clean.
    """

    frame: pl.DataFrame
    dirt: pl.Series

    @property
    def planted(self) -> Mapping[str, int]:
        """How many rows are dirty, by kind."""
        return Counter(self.dirt.drop_nulls())


def generate(catalog: Catalog, name: str, rows: int, *, seed: int = SEED) -> SourceRecords:
    """Make ``rows`` records of one of :data:`GENERATORS`' resources, in catalog order."""
    resource = catalog.resources[name]
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    columns, faults = GENERATORS[name](resource, random, rows)
    clean = pl.DataFrame(columns).select(
        pl.col(field.name) if field.name in columns else pl.lit(None, pl.String).alias(field.name)
        for field in resource.fields
    )
    return SourceRecords(*plant(clean, random, faults, share=DIRTY_SHARE))


Columns = Mapping[str, pl.Series]
Generator = Callable[[Resource, Random, int], tuple[Columns, Sequence[Fault]]]


@dataclass(frozen=True, slots=True)
class _Parties:
    """Subjects of decisions (行政相对人), one per record; the same ones come back."""

    kind: pl.Series
    name: pl.Series
    uscc: pl.Series
    chief: pl.Series
    chief_id: pl.Series
    person_id: pl.Series
    """Null unless a natural person; uscc and chief are null then."""


_LEGAL, _TRADER, _PERSON = "法人及非法人组织", "个体工商户", "自然人"
_ID_CARD: Final = "01"
"""证件类型 身份证."""
_SHOPS: Final = ("食品商店", "小吃店", "理发店", "山产品店", "汽车修理部", "超市", "饭店")


def _parties(random: Random, rows: int) -> _Parties:
    count = max(10, rows // 4)
    counties = pick(random, list(synthetic.COUNTIES), count)
    places = synthetic.matrix(counties)
    people = synthetic.person_names(random, count)
    places_of = counties.replace_strict(synthetic.COUNTIES, return_dtype=pl.String)
    pool = pl.DataFrame(
        {
            "kind": pick(random, [_LEGAL] * 6 + [_TRADER] * 3 + [_PERSON], count),
            "person": people,
            "person_code": _citizens(random, places),
            "company": synthetic.company_names(random, counties),
            "company_code": synthetic.column(synthetic.usccs(random, places)),
            "shop": places_of + people + pick(random, _SHOPS, count),
            "shop_code": synthetic.column(synthetic.usccs(random, places, kind="92")),
        }
    )
    legal, trader = pl.col("kind") == _LEGAL, pl.col("kind") == _TRADER
    frame = pool[random.integers(0, count, rows)].select(
        "kind",
        name=pl.when(legal).then("company").when(trader).then("shop").otherwise("person"),
        uscc=pl.when(legal).then("company_code").when(trader).then("shop_code"),
        chief=pl.when(legal | trader).then("person"),
        chief_id=pl.when(legal | trader).then("person_code"),
        person_id=pl.when(~(legal | trader)).then("person_code"),
    )
    return _Parties(**frame.to_dict())


def _citizens(random: Random, places: synthetic.Bytes) -> pl.Series:
    count = len(places)
    births = synthetic.days(random, "1950-01-01", "2004-12-31", count)
    male = random.integers(0, 2, count).astype(bool)
    return synthetic.column(synthetic.resident_ids(random, places, births, male))


def _subject(prefix: str, parties: _Parties) -> dict[str, pl.Series]:
    """Return the columns about the subject that 行政许可 and 行政处罚 have in common."""
    return {
        f"{prefix}_xdr_mc": parties.name,
        f"{prefix}_xdr_lb": parties.kind,
        f"{prefix}_xdr_shxym": parties.uscc,
        f"{prefix}_frdb": parties.chief,
        f"{prefix}_fr_zjlx": _where(parties.chief_id.is_not_null(), _ID_CARD),
        f"{prefix}_fr_zjhm": parties.chief_id,
        f"{prefix}_xdr_zjlx": _where(parties.person_id.is_not_null(), _ID_CARD),
        f"{prefix}_xdr_zjhm": parties.person_id,
    }


def _subject_faults(prefix: str) -> list[Fault]:
    code, chief = f"{prefix}_xdr_shxym", f"{prefix}_fr_zjhm"
    return [
        wrong_check_digit(code),
        fault(Dirt.PLACEHOLDER, code, PLACEHOLDER),
        full_width(code),
        Fault(
            Dirt.CONDITION, {code: pl.lit(None, pl.String)}, pl.col(f"{prefix}_xdr_lb") == _LEGAL
        ),
        fault(Dirt.CONDITION, f"{prefix}_xdr_zjhm", None),
        fault(Dirt.BAD_SHAPE, chief, pl.col(chief).str.head(17)),
        fault(Dirt.MISSING, f"{prefix}_xdr_mc", None),
        fault(Dirt.UNKNOWN_CODE, f"{prefix}_xdr_lb", "其它"),
    ]


_PERMITS: Final = (
    ("食品经营许可决定书", "普通", "食品经营许可证", "预包装食品销售；散装食品销售"),
    ("准予设立登记通知书", "登记", "营业执照", "准予设立登记"),
    ("林木采伐许可决定书", "普通", "林木采伐许可证", "准予采伐人工林抚育间伐蓄积一百二十立方米"),
    ("道路运输经营许可决定书", "普通", "道路运输经营许可证", "道路普通货物运输"),
    ("特种设备使用登记决定书", "核准", "特种设备使用登记证", "承压蒸汽锅炉使用登记"),
    ("取水许可决定书", "特许", "取水许可证", "取用地下水用于矿泉水生产"),
    ("护士执业注册决定书", "认可", "护士执业证书", "准予执业注册"),
)
"""行政许可: document, kind (许可类别), certificate, content."""


def _licences(resource: Resource, random: Random, rows: int) -> tuple[Columns, Sequence[Fault]]:
    """行政许可 (双公示, domain.md §7.1)."""
    parties = _parties(random, rows)
    decided = synthetic.days(random, "2021-01-01", _LAST_DAY, rows)
    begins = decided + random.integers(0, 8, rows)
    ends = _iso(begins + 365 * random.integers(1, 6, rows))
    document, kind, certificate, content = _draw(random, _PERMITS, rows)
    number = _numbers(rows, 6)
    columns = {
        **_subject("xk", parties),
        "xk_xkws": document,
        "xk_wsh": "大兴安岭审批许〔" + _year(decided) + "〕" + number + "号",
        "xk_xklb": kind,
        "xk_xkzs": certificate,
        "xk_xkbh": "JY2327" + number,
        "xk_nr": content,
        "xk_jdrq": _iso(decided),
        "xk_yxqz": _iso(begins),
        "xk_yxqzi": _where(_chance(random, rows, 15), FOREVER, ends),
        **_authority(resource, rows, "xk_xkjg", "xk_xkjgdm", "xk_lydw", "xk_lydwdm"),
        "xk_zt": pick(random, ["1"] * 12 + ["2"], rows),
        "bz": _where(_chance(random, rows, 5), "补录历史数据"),
    }
    return columns, [
        *_subject_faults("xk"),
        fault(Dirt.MISSING, "xk_nr", None),
        fault(Dirt.BAD_ORDER, "xk_yxqzi", "2019-12-31"),
        fault(Dirt.IN_FUTURE, "xk_jdrq", "2098-01-01"),
        fault(Dirt.NO_SUCH_DAY, "xk_jdrq", "2023-02-30"),
        fault(Dirt.UNKNOWN_CODE, "xk_zt", "9"),
        fault(Dirt.TOO_LONG, "xk_xkzs", "食品经营许可证（副本）" * 8),
        fault(Dirt.NUL, "xk_nr", pl.col("xk_nr") + "\0"),
        duplicate(resource.key),
    ]


_FINE, _SEIZED, _SUSPENDED = "罚款", "没收违法所得", "暂扣许可证件"
_OFFENCES: Final = (
    ("销售超过保质期的食品", "《中华人民共和国食品安全法》第一百二十四条", _FINE),
    ("未按规定明码标价", "《中华人民共和国价格法》第四十二条", _FINE),
    ("未取得许可擅自从事道路货物运输经营", "《中华人民共和国道路运输条例》第六十三条", _FINE),
    ("滥伐林木", "《中华人民共和国森林法》第七十六条", _FINE),
    ("销售侵犯注册商标专用权的商品", "《中华人民共和国商标法》第六十条", _SEIZED),
    ("未建立进货查验记录", "《中华人民共和国食品安全法》第一百二十六条", "警告"),
    ("使用未经检验的特种设备", "《中华人民共和国特种设备安全法》第八十四条", _SUSPENDED),
)
"""违法行为: offence, basis, kind of penalty."""


def _penalties(resource: Resource, random: Random, rows: int) -> tuple[Columns, Sequence[Fault]]:
    """行政处罚 (双公示, domain.md §7.2); money in 万元 with six decimals."""
    decided = synthetic.days(random, "2021-01-01", _LAST_DAY, rows)
    offence, basis, kind = _draw(random, _OFFENCES, rows)
    fined, seized, suspended = kind == _FINE, kind == _SEIZED, kind == _SUSPENDED
    until = _iso(decided + random.choice([90, 365, 1_095], rows))
    columns = {
        **_subject("cf", _parties(random, rows)),
        "cf_wsh": "大兴安岭市监罚〔" + _year(decided) + "〕" + _numbers(rows, 6) + "号",
        "cf_wfxw": offence,
        "cf_sy": "经查，当事人" + offence + "，事实清楚，证据确凿。",
        "cf_yj": basis,
        "cf_cflb": kind,
        "cf_nr": "依法作出" + kind + "的行政处罚，并责令改正。",
        "cf_nr_fk": _where(fined, _money(random, rows)),
        "cf_nr_wfff": _where(seized, _money(random, rows)),
        "cf_nr_zkdx": _where(suspended, "特种设备使用登记证"),
        "cf_jdrq": _iso(decided),
        "cf_yxq": until,
        "cf_gsjzq": until,
        **_authority(resource, rows, "cf_cfjg", "cf_cfjgdm", "cf_sjly", "cf_sjlydm"),
        "bz": _where(_chance(random, rows, 5), "已缴纳"),
    }
    return columns, [
        *_subject_faults("cf"),
        fault(Dirt.CONDITION, "cf_nr_fk", None),
        fault(Dirt.CONDITION, "cf_nr_wfff", None),
        fault(Dirt.MISSING, "cf_sy", None),
        fault(Dirt.BAD_ORDER, "cf_gsjzq", "2020-12-31"),
        fault(Dirt.NO_SUCH_DAY, "cf_jdrq", "2023-02-30"),
        fault(Dirt.NOT_A_NUMBER, "cf_nr_fk", "贰仟元"),
        fault(Dirt.UNKNOWN_CODE, "cf_cflb", "罚金"),
        fault(Dirt.TOO_LONG, "cf_wsh", "大兴安岭市监罚〔二〇二五〕壹佰贰拾叁号" * 8),
        duplicate(resource.key),
    ]


_OFFICES: Final = (
    "人民政府办公室 发展和改革局 教育局 工业和信息化局 民政局 司法局 财政局 自然资源局 "
    "人力资源和社会保障局 住房和城乡建设局 交通运输局 水务局 农业农村局 商务局 审计局 统计局 "
    "文化广电和旅游局 卫生健康局 退役军人事务局 应急管理局 市场监督管理局 医疗保障局 "
    "营商环境建设监督局 林业和草原局"
)
_SEALS: Final = (
    ("", "01"),
    ("合同专用章", "02"),
    ("财务专用章", "03"),
    ("行政审批专用章", "05"),
)
"""电子印章: what follows the owner's name, kind (印章类型)."""


def _seals(_resource: Resource, random: Random, rows: int) -> tuple[Columns, Sequence[Fault]]:
    """电子印章台账 (domain.md §7.7): one organ's seals stand together."""
    organs = -(-rows // len(_SEALS))
    counties = pick(random, list(synthetic.COUNTIES), organs)
    places_of = counties.replace_strict(synthetic.COUNTIES, return_dtype=pl.String)
    codes = synthetic.usccs(random, synthetic.matrix(counties), kind="11")
    seal_number = np.arange(rows) // len(_SEALS)
    owner = (places_of + pick(random, _OFFICES.split(), organs)).gather(seal_number)
    suffix, kind = (column.gather(np.arange(rows) % len(_SEALS)) for column in _texts(_SEALS))
    made_on = synthetic.days(random, "2023-01-01", "2026-03-31", rows)
    filed = made_on - random.integers(0, 5, rows)
    begins = made_on + random.integers(1, 15, rows)
    ends = _iso(begins + 5 * 365)
    status = pick(random, ["1"] * 15 + ["0", "2", "3", "4"], rows)
    columns = {
        "es_id": "ES232700" + _numbers(rows, 10),
        "seal_name": owner + suffix,
        "seal_type": kind,
        "police_code": "2327" + _numbers(rows, 9),
        "owner": owner,
        "owner_code": synthetic.column(codes).gather(seal_number),
        "area_code": counties.gather(seal_number),
        "ses_version": pick(random, ["4", "4", "4", "5", "1"], rows),
        "picture_type": _same("png", rows),
        "width_mm": _same("42", rows),
        "height_mm": _same("42", rows),
        "picture_sm3": _hex(random, rows, 64),
        "maker": _same("黑龙江省政务电子印章制作中心", rows),
        "maker_cert_serial": _same("6F0A19C2D47B8E35", rows),
        "maker_cert_issuer": _same("C=CN,O=Heilongjiang CA,CN=HLJ SM2 CA", rows),
        "signer_cert_serials": _hex(random, rows, 16).str.to_uppercase(),
        "signer_cert_until": ends + " 23:59:59",
        "created_at": _iso(made_on) + " 09:30:00",
        "valid_from": _iso(begins) + " 00:00:00",
        "valid_to": ends + " 23:59:59",
        "alg_oid": _same("1.2.156.10197.1.501", rows),
        "carrier": pick(random, ["软件", "UKey", "密码机"], rows),
        "apply_no": "SQ" + _year(made_on) + _numbers(rows, 6),
        "apply_date": _iso(filed - 15),
        "approve_no": "SP" + _year(made_on) + _numbers(rows, 6),
        "approve_date": _iso(filed - random.integers(1, 10, rows)),
        "filing_no": "BA" + _year(made_on) + _numbers(rows, 6),
        "filing_date": _iso(filed),
        "status": status,
        "cancel_reason": _where(status == "4", "机构改革，单位更名"),
    }
    return columns, [
        wrong_check_digit("owner_code"),
        fault(Dirt.MISSING, "seal_name", None),
        fault(Dirt.BAD_ORDER, "valid_to", "2022-01-01 00:00:00"),
        fault(Dirt.NO_SUCH_DAY, "created_at", "2023-02-30 09:30:00"),
        fault(Dirt.UNKNOWN_CODE, "status", "8"),
        fault(Dirt.BAD_SHAPE, "picture_sm3", pl.col("picture_sm3").str.head(-1) + "g"),
        duplicate(("es_id",)),
    ]


_APPEALS: Final = (
    ("3", "0301", "小区供暖温度不达标", "来电人反映家中室温不足十八度，希望供热公司尽快处理。"),
    ("2", "0204", "道路积雪未清理", "来电人反映门前路段积雪结冰，出行不便，希望尽快清理。"),
    ("1", "0102", "咨询医保报销比例", "来电人咨询异地就医住院费用的报销比例和所需材料。"),
    ("3", "0307", "施工噪音扰民", "来电人反映夜间施工噪音影响休息，要求按规定时间施工。"),
    ("4", "0402", "举报超范围经营", "来电人举报某商店超出许可范围销售食品，请核实查处。"),
    ("5", "0501", "建议增设公交站点", "来电人建议在新建小区门口增设公交站点，方便居民出行。"),
    ("6", "0601", "表扬窗口工作人员", "来电人表扬政务服务大厅工作人员热情耐心。"),
)
"""12345 诉求: kind, category, title, content."""


def _orders(_resource: Resource, random: Random, rows: int) -> tuple[Columns, Sequence[Fault]]:
    """12345 工单 (domain.md §7.6); times are local, to the second."""
    counties = pick(random, list(synthetic.COUNTIES), rows)
    offices = synthetic.usccs(random, synthetic.matrix(_COUNTY_CODES), kind="11")
    office = counties.replace_strict(_COUNTY_CODES, synthetic.column(offices))
    called = _moments(random, rows)
    sent_at = called + _seconds(random, 300, 3_600, rows)
    signed = sent_at + _seconds(random, 600, 8 * 3_600, rows)
    finished = signed + _seconds(random, 3_600, 4 * _DAY, rows)
    status = pick(random, ["3", "3", "5", "6", "6", "7", "7", "7", "2"], rows)
    over = status.is_in(["5", "6", "7"])
    visited = status.is_in(["6", "7"])
    kind, category, title, content = _draw(random, _APPEALS, rows)
    longitude = pl.Series(random.integers(121_150_000, 127_000_000, rows) / 1e6).cast(pl.String)
    latitude = pl.Series(random.integers(50_100_000, 53_500_000, rows) / 1e6).cast(pl.String)
    columns = {
        "order_no": "DXAL"
        + _clock(called).str.head(10).str.replace_all("-", "")
        + _numbers(rows, 6),
        "source": pick(random, ["01", "01", "01", "02", "03", "04", "05"], rows),
        "call_time": _clock(called),
        "citizen_name": synthetic.person_names(random, rows),
        "sex": pick(random, ["1", "2", "1", "2", "9"], rows),
        "phone": synthetic.column(synthetic.mobiles(random, rows)),
        "subject_type": _same("个人", rows),
        "is_secret": pick(random, ["0"] * 9 + ["1"], rows),
        "appeal_type": kind,
        "category_code": category,
        "title": title,
        "content": content,
        "address": synthetic.addresses(random, counties),
        "area_code": counties,
        "lng": longitude,
        "lat": latitude,
        "urgency": pick(random, ["0"] * 8 + ["1", "2"], rows),
        "handler_org": counties.replace_strict(synthetic.COUNTIES) + "人民政府办公室",
        "handler_org_code": office,
        "dispatch_time": _clock(sent_at),
        "sign_due": _clock(sent_at + np.timedelta64(8, "h")),
        "sign_time": _where(status != "2", _clock(signed)),
        "finish_due": _clock(sent_at + np.timedelta64(5, "D")),
        "finish_time": _where(over, _clock(finished)),
        "result": _where(over, "已联系来电人，问题已核实处理。"),
        "visit_time": _where(visited, _clock(finished + np.timedelta64(1, "D"))),
        "visit_method": _where(visited, "1"),
        "contacted": _where(visited, "1"),
        "resolved": _where(visited, pick(random, ["1", "1", "1", "2", "3"], rows)),
        "satisfaction": _where(visited, pick(random, ["5", "5", "4", "4", "3", "2", "0"], rows)),
        "status": status,
    }
    return columns, [
        full_width("phone"),
        fault(Dirt.BAD_SHAPE, "phone", pl.col("phone").str.head(-1)),
        wrong_check_digit("handler_org_code"),
        fault(Dirt.MISSING, "title", None),
        fault(Dirt.CONDITION, "result", None),
        fault(Dirt.BAD_ORDER, "finish_time", pl.col("call_time")),
        fault(Dirt.UNKNOWN_CODE, "urgency", "7"),
        fault(Dirt.OUT_OF_RANGE, "lng", pl.col("lat")),
        fault(Dirt.NO_SUCH_DAY, "finish_due", "2026-02-30 12:00:00"),
        fault(Dirt.TOO_LONG, "title", "来电人反映" * 50),
        fault(Dirt.NUL, "content", pl.col("content") + "\0"),
        duplicate(("order_no",)),
    ]


_DAY: Final = 24 * 3_600
_COUNTY_CODES: Final = pl.Series(list(synthetic.COUNTIES))

GENERATORS: Final[Mapping[str, Generator]] = {
    "credit_license": _licences,
    "credit_penalty": _penalties,
    "eseal_registry": _seals,
    "hotline_order": _orders,
}


# --- columns ---------------------------------------------------------------------------------


def _same(value: str, rows: int) -> pl.Series:
    return pl.Series([value], dtype=pl.String).new_from_index(0, rows)


def _authority(resource: Resource, rows: int, *columns: str) -> dict[str, pl.Series]:
    """Return columns that name the department and its USCC, by turns."""
    values = (resource.department.name, resource.department.code) * len(columns)
    return {column: _same(value, rows) for column, value in zip(columns, values, strict=False)}


def _texts(rows: Sequence[Sequence[str]]) -> list[pl.Series]:
    return [pl.Series(column, dtype=pl.String) for column in zip(*rows, strict=True)]


def _draw(random: Random, pool: Sequence[Sequence[str]], rows: int) -> list[pl.Series]:
    """Draw whole lines of ``pool``; return them as columns."""
    lines = random.integers(0, len(pool), rows)
    return [column.gather(lines) for column in _texts(pool)]


def _where(
    condition: pl.Series, value: str | pl.Series, otherwise: pl.Series | None = None
) -> pl.Series:
    """Choose per record; null where nothing else is given."""
    choice = pl.when(condition).then(pl.lit(value)).otherwise(otherwise)
    return pl.select(choice).to_series()


def _chance(random: Random, rows: int, percent: int) -> pl.Series:
    return pl.Series(random.integers(0, 100, rows) < percent)


def _numbers(rows: int, width: int) -> pl.Series:
    return synthetic.column(synthetic.digits(np.arange(1, rows + 1), width))


def _money(random: Random, rows: int) -> pl.Series:
    cents = pl.Series(random.integers(5, 50_000, rows)).cast(pl.Decimal(16, 6))
    return (cents / 1_000).cast(pl.Decimal(16, 6)).cast(pl.String)


def _hex(random: Random, rows: int, width: int) -> pl.Series:
    symbols = np.frombuffer(b"0123456789abcdef", np.uint8)
    return synthetic.column(symbols[random.integers(0, 16, (rows, width))])


def _iso(days: synthetic.Days) -> pl.Series:
    return pl.Series(days).dt.to_string("iso:strict")


def _year(days: synthetic.Days) -> pl.Series:
    return pl.Series(days).dt.year().cast(pl.String)


def _moments(random: Random, rows: int) -> synthetic.Days:
    """Draw times of working hours, to the second."""
    days = synthetic.days(random, "2025-01-01", _LAST_DAY, rows)
    return days + _seconds(random, 8 * 3_600, 20 * 3_600, rows)


def _seconds(random: Random, least: int, most: int, rows: int) -> np.typing.NDArray[np.timedelta64]:
    return random.integers(least, most, rows).astype("timedelta64[s]")


def _clock(moments: synthetic.Days) -> pl.Series:
    return pl.Series(moments.astype("datetime64[ms]")).dt.strftime("%Y-%m-%d %H:%M:%S")
