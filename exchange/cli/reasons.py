"""Reasons of refusal in a few words: what is wrong, and with which field."""

from __future__ import annotations

from collections.abc import Mapping

from exchange.catalog.model import Resource
from exchange.text import Text

_RULES: Mapping[str, Text] = {
    "required": Text("缺少必填值", "required value missing"),
    "required_when": Text("条件必填值缺失", "value missing where it is required"),
    "type": Text("类型不符", "not of its type"),
    "precision": Text("数位过多", "too many digits"),
    "scale": Text("小数位过多", "too many decimals"),
    "range": Text("超出范围", "out of range"),
    "length": Text("过长", "too long"),
    "control": Text("含控制字符", "control characters"),
    "pattern": Text("格式不符", "not of its form"),
    "check_digit": Text("校验位错误", "wrong check digit"),
    "table": Text("代码不在代码表中", "not in its code table"),
    "full_width": Text("含全角字符", "full-width characters"),
    "key": Text("主键重复", "key repeated"),
    "unique": Text("重复", "repeated"),
    "operation": Text("操作类型不符", "unknown operation"),
    "columns": Text("缺少目录登记的列", "without the columns of the catalog"),
    "record.size": Text("记录过大", "too large"),
    "check.failed": Text("检查时程序出错", "the program failed at it"),
    "message.unreadable": Text("不能读作记录的消息", "a message that cannot be read"),
    "replay.overtaken": Text("重送期间已有更新记录", "overtaken by a newer record"),
    "source.defect": Text("来源记录损坏", "broken at its source"),
}
"""The rules that every resource has; the catalog words its own."""


NOTE_KINDS: Mapping[str, Text] = {
    "title": Text("标题", "title"),
    "group": Text("分组", "group"),
    "footer": Text("表尾", "footer"),
    "header": Text("重复的表头", "header again"),
    "outside": Text("表外内容", "outside the table"),
    "sheet": Text("未读的工作表", "sheet not read"),
    "hidden sheet": Text("隐藏的工作表", "hidden sheet"),
    "passed over": Text("未读的文件", "file passed over"),
    "column": Text("缺少的列", "column not there"),
    "overlap": Text("回看范围", "overlap"),
    "transaction": Text("未结束的事务", "transaction under way"),
    "clock": Text("时间超前或写法不同", "ahead of the clock, or of another form"),
    "key": Text("键列为空", "no key"),
    "filter": Text("筛选不严", "filter not exact"),
    "total": Text("总数不符", "total differs"),
    "dropped": Text("已清除的消息", "messages dropped"),
    "no record": Text("不是记录的消息", "messages that are no record"),
    "versions": Text("被替换的版本", "versions replaced"),
    "deleted": Text("已删除的行", "rows deleted"),
    "memo": Text("未读的备注字段", "memos not read"),
}
"""The kinds of notes that our connectors write; those of others stay as they are."""


def note_kind(kind: str, lang: str) -> str:
    """Put the kind of a note in words."""
    return NOTE_KINDS[kind].pick(lang) if kind in NOTE_KINDS else kind


def reason(reason_name: str, resource: Resource | None, lang: str) -> str:
    """Put the name of a reason, ``rule:fields``, in words; unknown ones stay as they are."""
    rule, _, fields = reason_name.partition(":")
    own = {item.id: item.message for item in resource.rules} if resource is not None else {}
    if rule in own:
        return own[rule].pick(lang)
    if rule not in _RULES:
        return reason_name
    titles = {field.name: field.title for field in resource.fields} if resource is not None else {}
    what = _RULES[rule].pick(lang)
    labels = [
        titles.get(name, name) if lang == "zh" else name for name in fields.split(",") if name
    ]
    return f"{'、'.join(labels)} {what}" if labels else what
