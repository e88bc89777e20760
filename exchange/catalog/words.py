"""Words of a catalog: allowed values with their meanings, and what people write for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exchange.catalog.model import Sensitivity, ShareType, UpdateCycle
from exchange.text import Text

SENSITIVITY: Final[Mapping[Sensitivity, Text]] = {
    Sensitivity.S1: Text("公开", "public"),
    Sensitivity.S2: Text("政务内部", "internal"),
    Sensitivity.S3: Text("一般个人信息或商业信息", "personal or commercial"),
    Sensitivity.S4: Text("敏感个人信息", "sensitive personal"),
}
SHARE_TYPE: Final[Mapping[ShareType, Text]] = {
    ShareType.UNCONDITIONAL: Text("无条件共享", "shared without conditions"),
    ShareType.CONDITIONAL: Text("有条件共享", "shared on conditions"),
    ShareType.NOT_SHARED: Text("不予共享", "not shared"),
}
UPDATE_CYCLE: Final[Mapping[UpdateCycle, Text]] = {
    UpdateCycle.REALTIME: Text("实时", "in real time"),
    UpdateCycle.DAILY: Text("每日", "daily"),
    UpdateCycle.WEEKLY: Text("每周", "weekly"),
    UpdateCycle.MONTHLY: Text("每月", "monthly"),
    UpdateCycle.QUARTERLY: Text("每季度", "quarterly"),
    UpdateCycle.HALF_YEARLY: Text("每半年", "half-yearly"),
    UpdateCycle.YEARLY: Text("每年", "yearly"),
    UpdateCycle.IRREGULAR: Text("不定期", "irregularly"),
}
SHARE_WORDS: Final = {str(share.value): text for share, text in SHARE_TYPE.items()}
CYCLE_WORDS: Final = {cycle.value: text for cycle, text in UPDATE_CYCLE.items()}
LEVEL_WORDS: Final = {level.value: text for level, text in SENSITIVITY.items()}
SYNONYMS: Final[Mapping[str, str]] = {
    "每天": "daily",
    "日": "daily",
    "按日": "daily",
    "周": "weekly",
    "按周": "weekly",
    "月": "monthly",
    "按月": "monthly",
    "季": "quarterly",
    "每季": "quarterly",
    "半年": "half_yearly",
    "年": "yearly",
    "按年": "yearly",
    "即时": "realtime",
    "无条件": "1",
    "有条件": "2",
    "不共享": "3",
    "不予": "3",
    "一级": "S1",
    "二级": "S2",
    "三级": "S3",
    "四级": "S4",
}
"""What people write for an allowed value, besides its meaning."""
TYPE_SYNONYMS: Final[Mapping[str, str]] = {
    "字符串": "text(200)",
    "字符": "text(200)",
    "文字": "text(200)",
    "varchar": "text(200)",
    "string": "text(200)",
    "char": "text(200)",
    "备注": "free_text(4000)",
    "数字": "integer",
    "数值": "decimal(16,2)",
    "小数": "decimal(16,2)",
    "int": "integer",
    "金额": "decimal(16,2)",
    "number": "decimal(16,2)",
    "numeric": "decimal(16,2)",
    "时间": "datetime",
    "timestamp": "datetime",
    "布尔": "boolean",
    "bool": "boolean",
    "是否": "boolean",
    "代码": "code(代码表的键)",
    "身份证": "resident_id",
    "身份证号": "resident_id",
    "手机": "mobile",
    "手机号": "mobile",
    "电话": "phone",
    "邮箱": "email",
    "信用代码": "uscc",
    "区划": "region",
    "行政区划": "region",
}
"""What people write for a type, besides its title."""
COMMON_TYPES: Final = ("text", "integer", "decimal", "date", "datetime", "code", "uscc", "person")
"""The types that most fields are of: named where a type is not known."""
KEYS: Final[Mapping[str, Text]] = {
    "area": Text("行政区划", "the area"),
    "code": Text("代码", "the code"),
    "cycle": Text("更新周期", "the update cycle"),
    "department": Text("部门", "the department"),
    "departments": Text("部门", "the departments"),
    "fields": Text("数据项", "the fields"),
    "key": Text("主键", "the primary key"),
    "name": Text("名称", "the name"),
    "resources": Text("资源", "the resources"),
    "share": Text("共享类型", "the share type"),
    "title": Text("名称", "the title"),
    "values": Text("代码与含义", "codes and labels"),
    "version": Text("版本", "the version"),
}
"""What the keys of a catalog mean."""
SYNTAX: Final[Mapping[str, tuple[Text, Text]]] = {
    "mapping values are not allowed in this context": (
        Text("这一行的缩进不对，或值里有冒号", "this line is wrongly indented, or has a colon"),
        Text(
            "同一级的键要对齐；含冒号的值加引号",
            "keys of one level stand below each other; quote a value with a colon",
        ),
    ),
    "did not find expected ',' or '}'": (
        Text("花括号里缺少逗号，或没有右花括号", "a comma or the closing brace is missing"),
        Text(
            "各项之间用半角逗号“,”，最后写“}”", "put ',' between the items and '}' behind the last"
        ),
    ),
    "did not find expected ',' or ']'": (
        Text("方括号里缺少逗号，或没有右方括号", "a comma or the closing bracket is missing"),
        Text(
            "各项之间用半角逗号“,”，最后写“]”", "put ',' between the items and ']' behind the last"
        ),
    ),
    "did not find expected key": (
        Text("这一行与上文对不齐", "this line does not stand below the others"),
        Text("同一级的键缩进相同", "keys of one level have the same indentation"),
    ),
    "could not find expected ':'": (
        Text("键后面缺少冒号", "there is no colon behind the key"),
        Text("写“键: 值”，冒号后有空格", "write 'key: value', a blank behind the colon"),
    ),
    "found unexpected end of stream": (
        Text("引号没有配对", "a quote is not closed"),
        Text("补上右边的引号", "close the quote"),
    ),
    "did not find expected '-' indicator": (
        Text("列表里有一行不以“- ”开头", "a line of the list does not begin with '- '"),
        Text("列表的每一项以“- ”开头，并对齐", "begin every item with '- ', in one column"),
    ),
    "block sequence entries are not allowed in this context": (
        Text("此处不能写列表“- ”", "a list cannot stand here"),
        Text("列表另起一行，写在键的下面", "put the list on the lines below its key"),
    ),
    "did not find expected node content": (
        Text("逗号或括号多余，此处缺少内容", "a comma or bracket too many: nothing stands here"),
        Text("删去多余的逗号或括号", "remove it"),
    ),
    "found character that cannot start any token": (
        Text("值不能以此符号开头", "a value cannot begin with this character"),
        Text("给值加引号", "quote the value"),
    ),
    "found unknown escape character": (
        Text("双引号里的反斜杠“\\”不可用", "a backslash in double quotes cannot be read"),
        Text("改用单引号", "use single quotes"),
    ),
}
"""What the YAML library says, by its words: what is wrong, and what to do."""
