"""An old system on a real HTTP server: a login form, sessions that end, pages of tables in GBK."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import parse_qsl

from tests.support.web_service import Answer, Asked

USER, PASSWORD = "科员", "口令-s3cret"
COLUMNS = ("编号", "姓名", "更新时间")
Record = tuple[str, str, str]


def records(number: int) -> list[Record]:
    return [
        (f"A{n:04}", f"张{n}", f"2026-10-{1 + n // 60:02} 00:00:{n % 60:02}") for n in range(number)
    ]


@dataclass
class OldSite:
    """Serves pages as told; counts logins."""

    records: list[Record]
    page_size: int = 7
    session_pages: int = 1_000
    """Pages of the table that a session gives before it ends."""
    inline_login: bool = False
    """Whether the login page comes in place of a page, without a redirect."""
    secure: bool = True
    """Whether there is a login at all."""
    mangle: Callable[[str], str] = str
    """Changes the text of each page of the table."""
    last_for_ever: bool = False
    captcha: bool = False
    logins: int = 0
    sessions: dict[str, int] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/login.asp":
            return self._login(asked)
        if asked.path == "/main.asp":
            return page("<h1>欢迎</h1>")
        if asked.path != "/list.asp":
            return Answer(b"", 404)
        if self.secure and not self._session(asked):
            if self.inline_login:
                return self._form()
            return Answer(b"", 302, {"location": "/login.asp?from=list"})
        return self._list(asked)

    def _session(self, asked: Asked) -> bool:
        cookies = dict(
            part.strip().partition("=")[::2] for part in asked.headers.get("cookie", "").split(";")
        )
        name = cookies.get("SESSION", "")
        left = self.sessions.get(name, 0)
        if left <= 0 or cookies.get("theme") != "blue":
            self.sessions.pop(name, None)
            return False
        self.sessions[name] = left - 1
        return True

    def _form(self, message: str = "") -> Answer:
        captcha = '<input name="captcha">' if self.captcha else ""
        return page(
            f"""<p>{message}</p><form action="login.asp" method="post">
            <input type="hidden" name="__token" value="t&amp;1">
            用户名 <input name="user"> 密码 <input type="password" name="pwd"> {captcha}
            <select name="unit"><option value="1">办公室<option value="2" selected>财务</select>
            <input type="checkbox" name="keep">
            <input type="submit" name="go" value="登录"></form>""",
            title="系统登录",
        )

    def _login(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            return self._form()
        sent = dict(parse_qsl(asked.body.decode("ascii"), encoding="gbk"))
        if sent != {"__token": "t&1", "user": USER, "pwd": PASSWORD, "unit": "2"}:
            return self._form("用户名或密码错误")
        self.logins += 1
        name = f"s{next(self._numbers)}"
        self.sessions[name] = self.session_pages
        cookies = (
            f"SESSION={name}; path=/; HttpOnly, "
            "theme=blue; expires=Wed, 01 Dec 2027 10:18:14 GMT; path=/, old=; Max-Age=0"
        )
        return Answer(b"", 302, {"location": "main.asp", "set-cookie": cookies})

    def _list(self, asked: Asked) -> Answer:
        form = dict(parse_qsl(asked.body.decode("ascii"), encoding="gbk"))
        sent = {**asked.query, **form}
        rows = [row for row in self.records if row[2] >= sent.get("since", "")]
        pages = max(1, -(-len(rows) // self.page_size))
        number = int(sent.get("page", 1))
        if self.last_for_ever:
            number = min(number, pages)
        shown = rows[(number - 1) * self.page_size : number * self.page_size]
        lines = "".join(
            "<tr><td><input type=checkbox></td>"
            + "".join(f"<td>&nbsp;{html.escape(cell)} </td>" for cell in row)
            + "</tr>\r\n"
            for row in shown
        )
        lines = lines or '<tr><td colspan="4">暂无数据</td></tr>'
        following = f"/list.asp?page={number + 1}" if number < pages else ""
        link = f'<a href="{following}">下一页</a>' if following else "下一页"
        text = f"""<table><tr><td>办件系统</td><td><table><tr><td>菜单</td></tr></table></td></tr>
        <tr><td colspan="2"><table border="1"><tr><th></th><th>编 号</th><th>姓名</th>
        <th>更新时间</th></tr>{lines}<tr><td colspan="4">共 {len(rows)} 条 共 {pages} 页 {link}</td>
        </tr></table></td></tr></table>"""
        return page(self.mangle(text))


def page(body: str, title: str = "办件") -> Answer:
    text = (
        f"<html><head><meta charset=gb2312><title>{title}</title></head><body>{body}</body></html>"
    )
    return Answer(text.encode("gbk"), headers={"content-type": "text/html"})
