"""Notices: told once, in groups, again after hours, back to normal; over mail and work chats."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import time as Time  # noqa: N812 - the module of the same name is needed
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.run.channels import send_chat, send_mail
from exchange.run.notice_loop import NoticeLoop
from exchange.run.notices import (
    LASTING,
    TITLES,
    NoticeRule,
    NoticeState,
    decide,
    problems_of,
    summarised,
    summary_is_due,
)
from exchange.run.outcome import RunOutcome, Where
from exchange.run.runner import Runner
from exchange.settings import ChatSettings, MailSettings
from exchange.text import Text
from tests.cli.conftest import Run, open_node
from tests.pipeline.place import EAGER
from tests.pipeline.test_runner import wait_for
from tests.support.smtp import mail_server
from tests.support.sockets import listening, read_request

NOON = datetime(2026, 12, 1, 4, tzinfo=UTC)
RULE = NoticeRule(
    after=timedelta(minutes=5),
    repeat=timedelta(hours=4),
    distance=timedelta(minutes=10),
    summary=Time(8, 30),
)


@dataclass
class Robot:
    """A robot of a work chat: it keeps what it is sent, and answers as it is told."""

    url: str = ""
    answer: bytes = b'{"errcode": 0}'
    asked: list[tuple[str, dict[str, object]]] = field(default_factory=list)


@contextmanager
def robot() -> Iterator[Robot]:
    result = Robot()

    def handler(connection: object) -> None:
        data = read_request(connection)  # type: ignore[arg-type]
        head, _, body = data.partition(b"\r\n\r\n")
        result.asked.append((head.decode().split()[1], json.loads(body)))
        size = f"content-length: {len(result.answer)}\r\n\r\n".encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + size + result.answer)  # type: ignore[attr-defined]

    with listening(handler) as address:
        result.url = f"{address}/robot?key=s3cret"
        yield result


def moments(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def test_a_problem_is_told_once_in_a_group_again_after_hours_and_when_it_is_over() -> None:
    state = NoticeState()
    sent: list[tuple[float, str]] = []

    def look(minutes: float, *problems: str) -> None:
        nonlocal state
        kinds = dict.fromkeys(problems, "Transient")
        notice, state = decide(state, kinds, moments(minutes), RULE, "局")
        if notice is not None:
            sent.append((minutes, notice.text("en")))

    look(0, "pull/a")
    look(1, "pull/a", "pull/b")
    look(4, "pull/a")  # b was short: nobody hears of it
    assert sent == []
    look(5, "pull/a", "refused/c")
    assert [minutes for minutes, _ in sent] == [5]
    assert "a the pull fails (Transient), since 2026-12-01 12:00:00" in sent[0][1]
    assert "refused" not in sent[0][1]
    for minutes in range(6, 15):
        look(minutes, "pull/a", "refused/c", "pull/d")
    assert len(sent) == 1, "no storm: what is new waits for its distance"
    look(15, "pull/a", "refused/c", "pull/d")
    assert len(sent[1][1].split("\n")) == 4, "two in one notice"
    look(200, "pull/a", "refused/c", "pull/d")
    assert len(sent) == 2
    look(245, "pull/a", "refused/c")
    assert "still: a the pull fails" in sent[2][1]
    assert "back to normal: d the pull fails" in sent[2][1]
    look(300)
    assert sent[3][1].startswith("[局] everything is back to normal\n")
    look(400)
    assert len(sent) == 4


def test_everything_fails_in_one_notice_and_the_number_of_the_rest_is_told() -> None:
    problems = {f"pull/s{number}": "Denied" for number in range(90)}
    _, state = decide(NoticeState(), problems, NOON, RULE, "局")
    notice, _ = decide(state, problems, moments(5), RULE, "局")
    assert notice is not None
    assert len(notice.lines) == 22
    assert notice.lines[20].zh == "另有 70 项"


def test_the_summary_comes_once_a_day_at_its_time() -> None:
    early = datetime(2026, 12, 1, 0, 29, tzinfo=UTC)  # 08:29 in Beijing
    state = NoticeState()
    assert not summary_is_due(state, early, RULE)
    assert summary_is_due(state, early + timedelta(minutes=1), RULE)
    state = summarised(state, NOON)
    assert not summary_is_due(state, NOON, RULE)
    assert summary_is_due(state, NOON + timedelta(days=1), RULE)


def test_a_notice_has_no_word_of_an_error_and_knows_every_stage() -> None:
    outcome = RunOutcome()
    secret = Rejected(Text("张三 110101199003070000", "Zhang San"), hint=Text("", ""))
    for stage in TITLES:
        outcome.errors[Where(stage, "cases")] = secret
    problems = problems_of(outcome)
    lasting = {f"{stage}/cases" for stage in LASTING}
    assert set(problems) == {f"{stage}/cases" for stage in TITLES} - lasting
    outcome.halted.add(Where("seal", "cases"))
    assert problems_of(outcome) == {}, "the halt is looked up, with its resource"
    problems |= dict.fromkeys(lasting, "Rejected")
    _, state = decide(NoticeState(), problems, NOON, RULE, "局")
    notice, _ = decide(state, problems, moments(60), RULE, "局")
    assert notice is not None
    for lang in ("zh", "en"):
        assert "110101" not in notice.text(lang)
        assert "San" not in notice.text(lang)


# --- channels -------------------------------------------------------------------------------------


def secret(reference: str) -> str:
    return {"env:M": "pw", "env:W": "wrong", "env:K": "SEC1"}[reference]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def mail(port: int, **changes: object) -> MailSettings:
    values = {
        "host": "localhost",
        "port": port,
        "user": "node",
        "password": "env:M",
        "sender": "node@example.cn",
        "to": ["a@example.cn", "b@example.cn"],
        "ca": "ca.pem",
    }
    return MailSettings.model_validate(values | changes)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_mail_goes_over_tls(authority: trustme.CA, tmp_path: Path, security: str) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with mail_server("pw", context, starttls=security == "starttls") as mailbox:
        settings = mail(mailbox.port, security=security)
        send_mail(settings, "【局】标题\n一行", secret=secret, base=tmp_path)
        (message,) = mailbox.mails
        assert (message["Subject"], mailbox.to) == ("【局】标题", ["a@example.cn", "b@example.cn"])
        assert "一行" in message.get_content()
        assert mailbox.sessions == [True], "the password went over TLS"
        wrong = mail(mailbox.port, security=security, password="env:W")
        with pytest.raises(Denied):
            send_mail(wrong, "x", secret=secret, base=tmp_path)
        distrusted = mail(mailbox.port, security=security, ca="other.pem")
        with pytest.raises(Misconfigured):
            send_mail(distrusted, "x", secret=secret, base=tmp_path)
        assert len(mailbox.mails) == 1
    with pytest.raises(Transient):
        send_mail(settings, "x", secret=secret, base=tmp_path)


def chat(kind: str, text: str, *, signed: bool = True) -> tuple[str, dict[str, object]]:
    with robot() as service:
        settings = ChatSettings.model_validate(
            {"kind": kind, "url": "env:U", "secret": "env:K" if signed else None}
        )
        send_chat(
            settings,
            text,
            secret=lambda reference: service.url if reference == "env:U" else secret(reference),
            now=NOON,
            monotonic=time.monotonic,
            base=Path(),
        )
        (asked,) = service.asked
    return asked


def signature(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def test_each_robot_gets_what_its_interface_says() -> None:
    path, document = chat("wecom", "标题\n一行", signed=False)
    assert path == "/robot?key=s3cret"
    assert document == {"msgtype": "text", "text": {"content": "标题\n一行"}}
    path, document = chat("dingtalk", "标题")
    query = parse_qs(urlsplit(path).query)
    stamp = str(int(NOON.timestamp() * 1000))
    assert query["timestamp"] == [stamp]
    assert query["sign"] == [signature("SEC1", f"{stamp}\nSEC1")]
    _, document = chat("feishu", "标题")
    stamp = str(int(NOON.timestamp()))
    assert document == {
        "msg_type": "text",
        "content": {"text": "标题"},
        "timestamp": stamp,
        "sign": signature(f"{stamp}\nSEC1", ""),
    }
    _, document = chat("json", "标题\n一\n二", signed=False)
    assert document == {"title": "标题", "lines": ["一", "二"]}
    _, document = chat("wecom", "字" * 5_000, signed=False)
    assert len(str(document["text"]["content"]).encode()) < 2_048  # type: ignore[index]


@pytest.mark.parametrize("answer", [b'{"errcode": 310000}', b'{"code": 19021}'])
def test_what_a_robot_refuses_is_told_without_its_address(answer: bytes) -> None:
    with robot() as service:
        service.answer = answer
        settings = ChatSettings.model_validate({"kind": "wecom", "url": "env:U"})
        with pytest.raises(Rejected) as refused:
            send_chat(
                settings,
                "x",
                secret=lambda _reference: service.url,
                now=NOON,
                monotonic=time.monotonic,
                base=Path(),
            )
    assert "s3cret" not in str(refused.value)


# --- through a node -------------------------------------------------------------------------------


def add_notify(folder: Path, url: str) -> None:
    (folder / "robot.txt").write_text(url, "utf-8")
    path = folder / "exchange.yaml"
    section = (
        "notify:\n  chat: {duty: {kind: json, url: 'file:robot.txt'}}\n"
        "  after: 0s\n  distance: 0s\n"
    )
    text = path.read_text("utf-8").replace("connector: sql", "connector: sql\n    every: 1s")
    text = text.replace("every: 1s", "every: 1s\n    retry: 1s")
    path.write_text(section + text, "utf-8")


def test_a_running_node_tells_of_a_source_that_fails_and_that_it_is_back(
    folder: Path, run: Run
) -> None:
    table = folder / "companies.db"
    table.rename(folder / "away.db")
    with robot() as service:
        add_notify(folder, service.url)
        assert run("notify", "test").out == "duty: sent\n"
        service.asked.clear()
        for _ in range(2):  # a restart tells nothing twice
            _supervise(service, 1)
        (folder / "away.db").rename(table)
        _supervise(service, 2)
        titles = [document["title"] for _, document in service.asked]
        lines = [document["lines"] for _, document in service.asked]
    assert titles == ["【大兴安岭地区】1 项需要处理", "【大兴安岭地区】已全部恢复"]
    assert str(lines[0]).startswith("['companies 拉取失败 (")
    assert lines[1] == ["已恢复：companies 拉取失败"]
    path = folder / "robot.txt"
    path.write_text("http://127.0.0.1:1/robot?key=s3cret", "utf-8")
    failed = run("notify", "test")
    assert failed.code == 4
    assert "s3cret" not in failed.out + failed.err
    assert run("notify", "test", "nobody").code == 3


def _supervise(service: Robot, notices: int) -> None:
    """Run until so many notices were sent, and the source was tried once more behind them."""
    stop = threading.Event()
    tries: list[object] = []
    errors: list[ExchangeError] = []

    def supervise() -> None:
        with open_node() as node:
            runner = Runner(node, policy=EAGER, stages=("pull",), report_pull=tries.append)
            runner.forever(stop, lambda _, error: errors.append(error))

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        wait_for(lambda: len(service.asked) == notices)
        before = len(tries)
        wait_for(lambda: len(tries) > before + 1)
    finally:
        stop.set()
        thread.join(60)
    assert len(service.asked) == notices


def test_halts_and_overdue_receipts_are_looked_up_and_summed_up(folder: Path, run: Run) -> None:
    catalog = folder / "catalog.yaml"
    limited = catalog.read_text("utf-8").replace(
        "key: [uscc]", "key: [uscc]\n    limits: {max_count: 1}"
    )
    catalog.write_text(limited, "utf-8")
    with robot() as service:
        add_notify(folder, service.url)
        path = folder / "exchange.yaml"
        text = path.read_text("utf-8").replace(
            "after: 0s", "after: 0s\n  overdue: 1h\n  summary: '00:00'"
        )
        path.write_text(text, "utf-8")
        run("run", "--once", "--only", "pull", "--only", "seal")
        later = datetime.now(UTC) + timedelta(hours=2)
        with open_node() as node:
            node.clock = lambda: later
            assert node.settings.notify is not None
            for _ in range(2):  # as after a restart
                loop = NoticeLoop(node, node.settings.notify, pause=1)
                loop.step({}, {"companies"})
                loop.step({}, {"companies"})
                assert loop.errors() == {}
            NoticeLoop(node, node.settings.notify, pause=1).step({}, set())
        documents = [document for _, document in service.asked]
    problems, summary = documents
    assert problems["title"] == "【大兴安岭地区】2 项需要处理"
    lines = str(problems["lines"])
    assert "companies 资源已停止" in lines
    assert "companies 回执逾期" in lines
    assert str(summary["lines"]).startswith(
        "['companies：批次 1，回执 0，待投递 1，退回 0；隔离记录 2"
    )
