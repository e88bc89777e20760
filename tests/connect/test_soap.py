"""The soap connector against Metro, a SOAP server of other people's making."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.connect import (
    Denied,
    ExchangeError,
    Misconfigured,
    Pulled,
    Rejected,
    Response,
    Source,
    Text,
    Transient,
)
from exchange.connect.conformance import CHECKS, Case, Changes
from exchange.connectors.soap import soap
from exchange.connectors.soap.answer import read_answer
from exchange.connectors.soap.wsdl import Description
from tests.support.conformity import conform
from tests.support.metro import SoapServer, metro
from tests.support.servers import nobody
from tests.support.web_service import Answer, serving

SECRET = "s3cret-of-the-test"
PLACE = Text("第 1 页", "page 1")
Row = tuple[str, str, str, str, str]


class Clock:
    """A clock that goes on when somebody sleeps, and by ``step`` with every look."""

    def __init__(self, step: float = 0) -> None:
        self.moment = datetime(2026, 11, 1, tzinfo=UTC)
        self.step = timedelta(seconds=step)

    def now(self) -> datetime:
        self.moment += self.step
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoapServer]:
    with metro(tmp_path_factory.mktemp("metro")) as running:
        yield running


class Cases:
    """What stands behind the service."""

    def __init__(self, server: SoapServer, count: int) -> None:
        self.server = server
        self.rows: list[Row] = [
            (f"{n}", f"张{n}", "1.10", "1", f"2026-10-01 00:00:{n:02}") for n in range(count)
        ]
        self.save()

    def save(self) -> None:
        lines = ["\t".join(row) + "\n" for row in self.rows]
        self.server.data.write_text("".join(lines), "utf-8")

    def source(self, clock: Clock | None = None, **options: Any) -> Source:
        clock = clock or Clock()
        given = {**FIND, "url": self.server.url, "wsdl": str(self.server.wsdl), **options}
        return soap.open(given, lambda _: SECRET, now=clock.now, sleep=clock.sleep)

    def pull(self, cursor: Any = None, **options: Any) -> list[Pulled]:
        return list(self.source(**options).pull(cursor))


FIND: dict[str, Any] = {
    "operation": "find",
    "auth": "parameter",
    "secret": "env:TOKEN",
    "secret_param": "token",
    "records": "return.list",
    "total": "return.total",
    "paging": "page",
    "page_size": 7,
}


def ids(pulls: list[Pulled]) -> list[str]:
    return [number for p in pulls if p.frame.height for number in p.frame["id"].to_list()]


# --- what every connector must do -------------------------------------------------------------


def changes(cases: Cases) -> Changes:
    def late() -> list[tuple[str, str]]:
        cases.rows.append(("99", "late", "1", "0", cases.rows[-1][4]))
        cases.save()
        return [("99", "late")]

    def update() -> list[tuple[str, str]]:
        cases.rows.append(("0", "changed", "1", "0", "2026-10-09 00:00:00"))
        del cases.rows[0]
        cases.save()
        return [("0", "changed")]

    @contextmanager
    def outage() -> Iterator[None]:
        away = cases.server.data.rename(cases.server.data.with_suffix(".away"))
        yield
        away.rename(cases.server.data)

    # A deletion shifts the pages: the count shows it, and the next pull starts again (below).
    return Changes(late=late, update=update, delete=None, outage=outage)


@pytest.mark.filterwarnings("ignore:not tested")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_soap_conforms(check: Callable[[Case], None], server: SoapServer) -> None:
    cases = Cases(server, 16)
    news = {"cursor_column": "updated", "cursor_param": "since"}
    with nobody() as nowhere:
        conform(
            "soap",
            check,
            Case(
                # The clock goes on by seconds: each page comes in a frame of its own.
                open=lambda: cases.source(Clock(step=3), **news),
                changes=changes(cases),
                rows=[(row[0], row[1]) for row in cases.rows],
                identity=("id", "name"),
                news_only=True,
                secret=SECRET,
                broken={
                    "right": lambda: cases.source(auth="none"),
                    "operation": lambda: cases.source(operation="fetch"),
                    "server": lambda: cases.source(url=f"http://{nowhere}/cases"),
                },
            ),
        )


# --- answers ----------------------------------------------------------------------------------


def test_values_come_as_the_service_wrote_them(server: SoapServer) -> None:
    cases = Cases(server, 0)
    cases.rows = [("007", "张&<三>", "12345678901234567890.10", "1", "2026-10-01 08:00:00")]
    cases.rows += [("8", "", "1E+3", "0", "x")]
    cases.save()
    (pulled,) = cases.pull(columns={n: n for n in ("id", "name", "fee", "open")}, absent="null")
    assert pulled.frame.drop("_defect").rows() == [
        ("007", "张&<三>", "12345678901234567890.10", "true"),
        ("8", None, "1000", "false"),
    ]


def test_one_record_and_none_are_lists_too(server: SoapServer) -> None:
    assert ids(Cases(server, 1).pull()) == ["0"]
    assert Cases(server, 0).pull() == []


def test_no_record_where_none_is_told_is_an_error(server: SoapServer) -> None:
    options: dict[str, Any] = {"operation": "all", "records": "return", "total": ""}
    options |= {"paging": "none"}
    options |= {"auth": "none", "secret": None}
    assert ids(Cases(server, 3).pull(**options)) == ["0", "1", "2"]
    with pytest.raises(Rejected, match="does not say that there is none"):
        Cases(server, 0).pull(**options)
    assert Cases(server, 0).pull(**options, no_records="none") == []


def test_a_deletion_among_the_pages_is_told_and_the_next_pull_starts_again(
    server: SoapServer,
) -> None:
    cases = Cases(server, 16)
    stream = cases.source(Clock(step=3)).pull()
    saved = next(stream)
    del cases.rows[0]
    cases.save()
    with pytest.raises(Transient, match="counts 16 records, and sent 15"):
        list(stream)
    assert saved.cursor is not None
    assert ids(cases.pull({})) == [row[0] for row in cases.rows]


@pytest.mark.parametrize(("kind", "rows"), [("json", ["1", "2"]), ("xml", ["1"])])
def test_a_text_that_holds_the_records_is_read(
    kind: str, rows: list[str], server: SoapServer
) -> None:
    options: dict[str, Any] = {"operation": "asText", "parameters": {"kind": kind}}
    options |= {"inner": kind, "total": ""}
    options |= {"paging": "none", "auth": "none", "secret": None}
    path = "rows" if kind == "json" else "row"
    assert ids(Cases(server, 0).pull(**options, records=path)) == rows


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"auth": "none"}, Transient, "answers the fault .*Server: no access for null"),
        ({"parameters": {"sice": 1}}, Misconfigured, "does not take these parameters.*sice"),
        ({"operation": "fetch"}, Misconfigured, "has no operation fetch"),
        ({"operation": ""}, Misconfigured, "operation is missing.*there are all, asText, find"),
        ({"records": "return.items"}, Misconfigured, "answers of find have no items"),
        ({"total": "return.count"}, Misconfigured, "answers of find have no count"),
        ({"service": "Others"}, Misconfigured, "no usable WSDL"),
        ({"wsdl": "no.wsdl"}, Misconfigured, "No such file"),
        ({"secret_param": ""}, Misconfigured, "needs secret_param, secret"),
        ({"url": "http://192.0.2.1/"}, Misconfigured, "not safe"),
    ],
)
def test_what_is_wrong_is_told(
    options: dict[str, Any], error: type[ExchangeError], text: str, server: SoapServer
) -> None:
    with pytest.raises(error, match=text):
        Cases(server, 3).pull(**options)


def test_operations_are_discovered(server: SoapServer) -> None:
    entries = Cases(server, 0).source().discover()
    assert [entry["name"] for entry in entries] == ["all", "asText", "find"]
    assert entries[2]["comment"] == "since: string, page: int, size: int, token: string"


def test_passwords_stand_where_the_service_looks_for_them(server: SoapServer) -> None:
    heard = []

    def answer(asked: Any) -> Answer:
        heard.append(asked)
        return Answer(b"", 500)

    with serving(answer) as service:
        for auth in ("basic", "wsse", "wsse_digest"):
            with pytest.raises(Transient, match="answers HTTP 500"):
                Cases(server, 0).pull(url=service.url, auth=auth, user="clerk", retries=0)
    basic, text, digest = heard
    assert basic.headers["authorization"].startswith("Basic ")
    assert SECRET.encode() in text.body
    assert b"<wsse:Username>clerk" in text.body
    assert SECRET.encode() not in digest.body
    assert b"#PasswordDigest" in digest.body
    assert service.url.encode() in text.body, "wsa:To is the address that is called"


# --- what is not trusted ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ('"0.xsd"', '"http://192.0.2.1/0.xsd"', "imports http://192"),
        ('"0.xsd"', '"../../etc/0.xsd"', "imports .*etc/0.xsd"),
        ("<definitions", "<!DOCTYPE d [<!ENTITY e 'x'>]><definitions", "DTDForbidden"),
        ("</definitions>", "", "no usable WSDL"),
    ],
)
def test_a_description_fetches_nothing(
    before: str, after: str, error: str, server: SoapServer, tmp_path: Path
) -> None:
    for file in server.wsdl.parent.iterdir():
        text = file.read_text("utf-8")
        if file.name == server.wsdl.name:
            assert before in text
            text = text.replace(before, after)
        (tmp_path / file.name).write_text(text, "utf-8")
    with pytest.raises(Misconfigured, match=error):
        Description(tmp_path / server.wsdl.name, "", "", None)


def envelope(body: str, head: str = "") -> bytes:
    space = "http://schemas.xmlsoap.org/soap/envelope/"
    return f'{head}<s:Envelope xmlns:s="{space}"><s:Body>{body}</s:Body></s:Envelope>'.encode()


FAULT = "<s:Fault><faultcode>{}</faultcode><faultstring>why\x1b</faultstring></s:Fault>"
FAULT_12 = (
    "<s:Fault><s:Code><s:Value>s:{}</s:Value></s:Code><s:Reason><s:Text>why</s:Text></s:Reason>"
    "</s:Fault>"
)


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        (envelope(FAULT.format("s:Client").replace("\x1b", "")), Rejected, "fault s:Client: why"),
        (envelope(FAULT.format("s:Server").replace("\x1b", "")), Transient, "fault s:Server: why"),
        (envelope(FAULT.format("wsse:FailedAuthentication")[:-1] + ">"), Rejected, "no SOAP"),
        (envelope(FAULT_12.format("Sender")), Rejected, "fault s:Sender: why"),
        (envelope(FAULT_12.format("Receiver")), Transient, "fault s:Receiver: why"),
        (envelope(FAULT.format("x:InvalidSecurity").replace("\x1b", "")), Denied, "InvalidSec"),
        (envelope("", "<!DOCTYPE a [<!ENTITY e 'x'>]>"), Rejected, "DOCTYPE"),
        (envelope("<a>&e;</a>"), Rejected, "no SOAP answer"),
        (b"<html><title>login</title></html>", Rejected, "no envelope"),
        (b"{}", Rejected, "no SOAP answer"),
        (envelope(""), Rejected, "nothing in its body"),
        (envelope("<a>" * 80 + "</a>" * 80), Rejected, "nested too deeply"),
        (envelope('<a id="1"><b href="#1"/></a>'), Rejected, "nested too deeply"),
    ],
)
def test_answers_are_judged(body: bytes, error: type[ExchangeError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        read_answer(Response(200, {}, body), "none", (), PLACE)
    assert type(caught.value) is error


def test_parts_are_found_by_their_ids() -> None:
    """As Axis 1 writes them (SOAP 1.1 §5.4.1)."""
    body = envelope(
        '<r><return href="#a"/></r><multiRef id="a"><list><id>1</id></list>'
        '<list href="#b"/></multiRef><multiRef id="b"><id>2</id></multiRef>'
    )
    content = read_answer(Response(200, {}, body), "none", (), PLACE)
    assert content == {"return": {"list": [{"id": "1"}, {"id": "2"}]}}


@given(st.text(alphabet='<>/&"= ab#1idhref:s\n', max_size=60))
def test_any_answer_is_read_or_refused(text: str) -> None:
    for body in (text.encode(), envelope(text)):
        try:
            content = read_answer(Response(200, {}, body), "none", (), PLACE)
        except ExchangeError:
            continue
        assert isinstance(content, dict | str | None)
