"""The diagnostics of ``exchange doctor``: one check each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exchange.errors import ExchangeError
from exchange.text import Text

NO_HINT = Text("", "")


TITLES: Final[Mapping[str, Text]] = {
    "python": Text("运行环境", "python"),
    "crypto": Text("密码库", "crypto"),
    "hashing": Text("杂凑", "hashing"),
    "settings": Text("配置", "settings"),
    "catalog": Text("目录", "catalog"),
    "catalog plan": Text("目录变更", "catalog plan"),
    "seal": Text("印章", "seal"),
    "register": Text("印章台账", "register"),
    "trust": Text("信任根", "trust"),
    "log": Text("日志", "log"),
    "clock": Text("时钟", "clock"),
    "clocks": Text("两级时钟", "clocks"),
    "working days": Text("工作日", "working days"),
    "store": Text("存储", "store"),
    "disk": Text("磁盘", "disk"),
    "file modes": Text("文件权限", "file modes"),
    "source": Text("数据源", "source"),
    "resource": Text("资源", "resource"),
    "upstream": Text("上级平台", "upstream"),
    "tsa": Text("时间戳服务", "tsa"),
    "evidence": Text("存证日志", "evidence"),
    "witness": Text("见证", "witness"),
    "replicas": Text("副本", "replicas"),
    "topics": Text("主题", "topics"),
    "rights": Text("集群权限", "rights"),
    "positions": Text("处理位置", "positions"),
}
"""The names of the checks in words."""


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Diagnostic:
    """One check: what was looked at, how it ended, and what to do about it."""

    name: str
    grade: Grade
    text: Text
    hint: Text = NO_HINT
    code: int = 0
    """Exit code that this failure asks for; 0 for anything else."""

    @property
    def title(self) -> Text:
        """Its name in words; what comes after the first word is the user's own."""
        if self.name in TITLES:
            return TITLES[self.name]
        kind, blank, own = self.name.partition(" ")
        title = TITLES.get(kind, Text(kind, kind))
        return Text(f"{title.zh}{blank}{own}", f"{title.en}{blank}{own}")

    def as_dict(self) -> dict[str, object]:
        """Return the diagnostic for JSON."""
        return {
            "name": self.name,
            "grade": self.grade,
            "text": self.text._asdict(),
            "hint": self.hint._asdict(),
        }


def probe(name: str, look: Callable[[], Text | Diagnostic]) -> Diagnostic:
    """Make one check: an error of ours is its failure."""
    try:
        result = look()
    except ExchangeError as error:
        return Diagnostic(name, Grade.FAIL, error.what, error.hint, error.exit_code)
    return result if isinstance(result, Diagnostic) else Diagnostic(name, Grade.OK, result)
