"""What Typer and argparse say of a command line, in the reader's language.

Both speak English only. Their errors are told by their class and fields, their help pages by the
few words that are the frame of every page.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NoReturn

from exchange.cli.layout import pad, width_of
from exchange.foreign import original, setting_reason
from exchange.text import Text

_FRAME: Final[Sequence[tuple[str, str]]] = (
    (r"(?m)^[Uu]sage: ", "用法："),
    (r"(?m)^(Options|options):$", "选项："),
    (r"(?m)^(Arguments|positional arguments):$", "参数："),
    (r"(?m)^Commands:$", "命令："),
    (r"\[OPTIONS\]", "[选项]"),
    (r"COMMAND \[ARGS\]\.\.\.", "命令 [参数]..."),
    (r"(?m)(?<=  )(Show|show) this (message|help message) and exit\.?$", "显示帮助"),
    (r"\[required\]", "[必填]"),
    (r"\[default: ", "[默认："),
    (r"; required\]", "；必填]"),
    (r"<int( range)?>", "<整数>"),
    (r"<float( range)?>", "<数字>"),
    (r"<(str|list\[str\])>", "<文本>"),
    (r"<path>", "<路径>"),
)
_SENTENCES: Final[Sequence[tuple[str, str]]] = (
    # Typer
    (r"No such command '(.*?)'\.(?: Did you mean (.*)\?)?", "没有命令 {0}"),
    (r"Missing command\.", "缺少命令"),
    (r"Got unexpected extra argument\(s\) \((.*)\)", "多余的参数：{0}"),
    (r"Option '(.*)' requires an argument\.", "选项 {0} 后面要有值"),
    (r"Option '(.*)' requires (\d+) arguments\.", "选项 {0} 后面要有 {1} 个值"),
    (r"Option '(.*)' does not take a value\.", "选项 {0} 不带值"),
    (r"Argument '(.*)' takes (\d+) values\.", "参数 {0} 要有 {1} 个值"),
    # argparse
    (r"the following arguments are required: (.*)", "缺少参数：{0}"),
    (r"unrecognized arguments: (.*)", "没有这些选项或参数：{0}"),
    (r"ambiguous option: (\S+) could match (.*)", "选项 {0} 不明确，可能是：{1}"),
    (r"argument (.*?): expected one argument", "选项 {0} 后面要有一个值"),
    (r"argument (.*?): expected at least one argument", "选项 {0} 后面要有值"),
    (r"argument (.*?): ignored explicit argument (.*)", "选项 {0} 不带值"),
    (r"argument (.*?): invalid int value: (.*)", "选项 {0} 应为整数：{1}"),
)


def sentence(message: str) -> Text:
    """Return an error of a command line in both languages."""
    ours = Text.split(message)
    if ours.zh != ours.en:  # argparse puts the option's name before it
        named = re.fullmatch(r"argument (.*?): (.*)", ours.zh, re.DOTALL)
        return Text(f"选项 {named[1]}：{named[2]}", f"{named[1]}: {ours.en}") if named else ours
    for pattern, chinese in _SENTENCES:
        match = re.fullmatch(pattern, message, re.DOTALL)
        if match is not None:
            zh = chinese.format(*(group or "" for group in match.groups()))
            near = (match[2] or "").strip("'") if "Did you mean" in pattern else ""
            return Text(f"{zh}；是不是 {near}？" if near else zh, message)
    return Text(original(message).zh, message)


def reason(error: Any) -> Text:
    """Return an error of Typer in both languages: what is wrong with the command line."""
    english = error.format_message()
    name = type(error).__name__
    if name == "NoSuchOption":
        near = "、".join(sorted(error.possibilities or ()))
        zh = f"没有选项 {error.option_name}"
        return Text(f"{zh}；是不是 {near}？" if near else zh, english)
    if name == "MissingParameter":
        option = error.param is not None and error.param.param_type_name == "option"
        return Text(f"缺少{'选项' if option else '参数'} {_hint(error)}", english)
    if name == "BadParameter":
        return _bad_parameter(error, english)
    return sentence(english)


def _bad_parameter(error: Any, english: str) -> Text:
    hint = _hint(error)
    ours = Text.split(error.message)
    if ours.zh != ours.en:
        return Text(f"{hint}：{ours.zh}", f"{hint}: {ours.en}") if hint else ours
    problems = getattr(error.__cause__, "errors", None)
    if problems is not None:
        why = setting_reason(problems()[0])
        return Text(f"{hint} 的值不正确：{why.zh}", f"Invalid value for {hint}: {why.en}")
    choices = re.search(r"is not one of (.*)\.$", error.message)
    if choices is not None:
        return Text(f"{hint} 的值不正确，可用：{choices[1]}", english)
    return Text(f"{hint} 的值不正确（{original(error.message).zh}）", english)


def _hint(error: Any) -> str:
    hint = error.param_hint
    if hint is None and error.param is not None:
        hint = error.param.get_error_hint()
    names = [hint] if isinstance(hint, str) else list(hint or ())
    return " / ".join(name.strip("'") for name in names)


def _as_wide(chinese: str, match: re.Match[str]) -> str:
    """Fill a word of a column up to the width of what it stands for."""
    return pad(chinese, width_of(match[0])) if match[0].startswith("<") else chinese


def page(text: str, lang: str) -> str:
    """Return a help page, or the line of usage, with its frame in the reader's language."""
    if lang == "zh":
        for pattern, chinese in _FRAME:
            text = re.sub(pattern, partial(_as_wide, chinese), text)
    return text


class Parser(argparse.ArgumentParser):
    """A parser that speaks the reader's language."""

    def __init__(self, name: str, lang: str, code: int, description: str) -> None:
        """Name the command, the language, and the exit code for what cannot be read."""
        super().__init__(name, description=description)
        self._lang, self._code = lang, code

    def format_help(self) -> str:
        """Return the page of the command."""
        return page(super().format_help(), self._lang)

    def format_usage(self) -> str:
        """Return the line of usage."""
        return page(super().format_usage(), self._lang)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with the code for a wrong command line."""
        text = sentence(message).pick(self._lang)
        head = {"zh": f"{self.prog}：", "en": f"{self.prog}: "}
        self.exit(self._code, self.format_usage() + head.get(self._lang, head["en"]) + text + "\n")


def wrong(zh: str, en: str) -> argparse.ArgumentTypeError:
    """Return what a value's reader raises for argparse."""
    return argparse.ArgumentTypeError(Text(zh, en).joined())


def page_of(command: Any, lang: str) -> None:
    """Have a command of Typer write its page in one language."""
    write: Any = command.get_help

    def get_help(context: Any) -> str:
        return page(write(context), lang)

    command.get_help = get_help
