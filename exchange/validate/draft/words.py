"""Words of column titles: what they hint at, and English names for them.

Titles of departments are Chinese, or the initials of their pinyin (``sfzh`` 身份证号).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_HINTS: Final[Mapping[str, str]] = {
    # Business type → what a title that means it holds; English and initials as whole words.
    "resident_id": r"身份证|身份号码|sfzh|sfzhm|gmsfhm|id_?card|resident_id",
    "uscc": r"社会信用代码|信用代码|tyshxydm|uscc|credit_code",
    "mobile": r"手机|移动电话|sjh|sjhm|mobile|cell_?phone",
    "phone": r"电话|联系方式|lxdh|lxfs|dh|phone|tel",
    "email": r"邮箱|电子邮件|e_?mail",
    "bank_card": r"银行卡|卡号|银行账号|yhkh|yhzh|bank_?(?:card|account)",
    "region": r"区划|行政区|xzqh|xzqhdm|region|area_?code|adcode|division",
    "date": r"日期|年月日|有效期|csrq|rq|date|birthday",
    "datetime": r"时间|时刻|sj|gxsj|cjsj|time|datetime|created|updated|modified",
    "boolean": r"是否|sf|is|has",
    "person": r"姓名|法定代表人|法人代表|负责人|联系人|经办人|申请人姓名|xm|fddbr|fzr|lxr|"
    r"person|contact_?name|full_?name",
    "address": r"地址|住址|住所|dz|zz|jtzz|address|addr",
    "id_number": r"证件号|证件号码|护照|zjh|zjhm|passport|id_?number",
    "code": r"状态|性别|民族|类型|类别|种类|级别|等级|学历|方式|标志|标识位|zt|xb|mz|lx|lb|"
    r"status|state|sex|gender|type|kind|category|level|grade|flag",
    "number": r"编号|编码|代码|标识码|识别号|登记号|注册号|序列号|文号|证号|账号|单号|"
    r"bh|bm|dm|code|no|number|serial",
    "amount": r"金额|资本|资金|单价|价格|费用|数量|面积|人数|总数|合计|年龄|年度|年份|je|sl|"
    r"amount|price|quantity|count|total|age|year",
    "name": r"名称|机构|单位|部门|企业|公司|学校|医院|项目|mc|qymc|dwmc|name|title",
    "region_code": r"代码|编码|dm|code",
}


def _compiled(hint: str) -> re.Pattern[str]:
    """Match Chinese words anywhere, Latin ones as whole words between underscores."""
    parts = hint.split("|")
    chinese = [part for part in parts if not part[0].isascii()]
    latin = [part for part in parts if part[0].isascii()]
    return re.compile(
        "|".join([*chinese, *(f"(?<![a-z])(?:{part})(?![a-z])" for part in latin)]), re.IGNORECASE
    )


HINTS: Final[Mapping[str, re.Pattern[str]]] = {
    kind: _compiled(hint) for kind, hint in _HINTS.items()
}


def hints(*titles: str) -> frozenset[str]:
    """Return the kinds that a column's name, title or comment hints at."""
    return frozenset(
        kind for kind, hint in HINTS.items() if any(hint.search(title) for title in titles)
    )


SURNAMES: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏"
    "魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵"
    "万钱严覃武戴莫孔向汤欧关"
)
"""The hundred commonest surnames, some 85 of 100 people."""
PERSON: Final = f"^[{SURNAMES}][\u4e00-\u9fff]{{1,3}}$"

_FIRST_DIGITS: Final = (
    (11, 16),
    (21, 24),
    (31, 38),
    (41, 47),
    (50, 55),
    (61, 66),
    (71, 72),
    (81, 83),
)
PROVINCES: Final = frozenset(str(n) for start, end in _FIRST_DIGITS for n in range(start, end))
"""First two digits of division codes, GB/T 2260."""

ENGLISH: Final[Mapping[str, str]] = {
    # Frequent words of titles, in the form of a name; longer ones win.
    "统一社会信用代码": "uscc",
    "社会信用代码": "uscc",
    "公民身份号码": "resident_id",
    "身份证号码": "resident_id",
    "身份证号": "resident_id",
    "身份证": "resident_id",
    "法定代表人": "legal_representative",
    "行政区划": "region",
    "手机号码": "mobile",
    "手机号": "mobile",
    "手机": "mobile",
    "联系电话": "phone",
    "电话号码": "phone",
    "电话": "phone",
    "电子邮箱": "email",
    "邮箱": "email",
    "证件号码": "id_number",
    "证件号": "id_number",
    "证件": "certificate",
    "企业": "enterprise",
    "公司": "company",
    "单位": "unit",
    "部门": "department",
    "机构": "institution",
    "机关": "authority",
    "学校": "school",
    "医院": "hospital",
    "项目": "project",
    "许可": "licence",
    "处罚": "penalty",
    "申请": "application",
    "审批": "approval",
    "办理": "handling",
    "登记": "registration",
    "注册": "registered",
    "成立": "founded",
    "出生": "birth",
    "有效期": "validity",
    "更新": "update",
    "创建": "created",
    "修改": "modified",
    "开始": "start",
    "结束": "end",
    "起始": "start",
    "截止": "end",
    "发证": "issue",
    "颁发": "issue",
    "姓名": "name",
    "名称": "name",
    "性别": "sex",
    "民族": "ethnic_group",
    "年龄": "age",
    "学历": "education",
    "职务": "post",
    "国籍": "nationality",
    "负责人": "head",
    "联系人": "contact",
    "经办人": "handler",
    "地址": "address",
    "住址": "address",
    "住所": "address",
    "地区": "area",
    "省份": "province",
    "省": "province",
    "城市": "city",
    "市": "city",
    "区县": "county",
    "县": "county",
    "乡镇": "township",
    "村": "village",
    "序号": "seq",
    "编号": "number",
    "编码": "code",
    "代码": "code",
    "文号": "document_number",
    "号码": "number",
    "状态": "status",
    "类型": "type",
    "类别": "category",
    "种类": "kind",
    "级别": "level",
    "等级": "grade",
    "方式": "method",
    "来源": "source",
    "资本": "capital",
    "资金": "funds",
    "金额": "amount",
    "单价": "price",
    "价格": "price",
    "数量": "quantity",
    "面积": "area_size",
    "人数": "people",
    "总数": "total",
    "合计": "total",
    "经度": "longitude",
    "纬度": "latitude",
    "日期": "date",
    "时间": "time",
    "年份": "year",
    "年度": "year",
    "月份": "month",
    "标识码": "id_code",
    "主管": "supervising",
    "所在地": "location",
    "办学": "education",
    "层次": "level",
    "法人": "legal_person",
    "人员": "staff",
    "职工": "staff",
    "车牌": "plate",
    "车辆": "vehicle",
    "房屋": "house",
    "土地": "land",
    "合同": "contract",
    "证书": "certificate",
    "许可证": "licence",
    "决定": "decision",
    "事项": "matter",
    "结果": "result",
    "原因": "reason",
    "经营": "business",
    "行业": "industry",
    "银行": "bank",
    "账号": "account",
    "户籍": "household_registration",
    "婚姻": "marriage",
    "备注": "remark",
    "说明": "note",
    "内容": "content",
    "描述": "description",
    "意见": "opinion",
    "经营范围": "business_scope",
    "是否": "is",
    "标志": "flag",
    "主键": "key",
}
_SEGMENT: Final = re.compile("|".join(sorted(ENGLISH, key=len, reverse=True)))
_IDENTIFIER: Final = re.compile("[A-Za-z][A-Za-z0-9_]{0,62}")
_MAX_NAME: Final = 40


def field_name(column: str, position: int) -> str:
    """Propose a name: the column's own, the words of its title in English, else ``f<position>``."""
    if _IDENTIFIER.fullmatch(column):
        return column
    title = re.sub(r"[\s/_\-]+|[（(][^）)]*[）)]", "", column)
    words = [ENGLISH[match[0]] for match in _SEGMENT.finditer(title)]
    name = "_".join(dict.fromkeys(words))
    if not words or _SEGMENT.sub("", title) or len(name) > _MAX_NAME:
        return f"f{position}"
    return name
