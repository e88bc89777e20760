"""Every error of kafka-python has its verdict, and none loses its cause."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import kafka
import pytest
from kafka import errors

from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.log import Fenced
from exchange.log.kafka.kafka_errors import VERDICTS, map_errors, translate
from exchange.text import Text

WHAT = Text("写入", "writing")


def known_classes() -> set[type]:
    """Find every error class that kafka-python defines, in whatever module."""
    parts = [
        importlib.import_module(package.name)
        for package in pkgutil.walk_packages(kafka.__path__, "kafka.")
        if not package.name.startswith(("kafka.vendor", "kafka.cli", "kafka.benchmarks"))
        and not package.name.endswith("__main__")
        and ".generate_stubs" not in package.name
    ]
    return {
        value
        for part in parts
        for _, value in inspect.getmembers(part, inspect.isclass)
        if issubclass(value, errors.KafkaError)
    }


def test_the_table_is_complete_and_has_nothing_else() -> None:
    assert {kind.__name__ for kind in known_classes() ^ set(VERDICTS)} == set()


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        (errors.KafkaTimeoutError(), Transient),
        (errors.NotEnoughReplicasError(), Transient),
        (errors.KafkaError("who knows"), Transient),
        (errors.ProducerFencedError(), Fenced),
        (errors.CommitFailedError(), Fenced),
        (errors.MessageSizeTooLargeError(), Rejected),
        (errors.IncompatibleBrokerVersion(), Misconfigured),
        (errors.SaslAuthenticationFailedError(), Denied),
        (errors.TopicAuthorizationFailedError({"exchange.raw.a"}), Denied),
        (errors.CorruptRecordError(), Integrity),
        (errors.LogTruncationError({}), Integrity),
        (OSError("no route"), Transient),
    ],
)
def test_examples(foreign: Exception, ours: type[ExchangeError]) -> None:
    with pytest.raises(ours) as caught, map_errors(WHAT):
        raise foreign
    assert type(caught.value) is ours
    assert caught.value.__cause__ is foreign
    assert type(foreign).__name__ in caught.value.what.en
    assert caught.value.what.zh.startswith("写入")


def test_a_wrapped_error_tells_its_inner_one() -> None:
    inner = errors.KafkaError(errors.InvalidTxnStateError())
    assert isinstance(translate(errors.KafkaError("in an error state", inner), WHAT), Fenced)


def test_an_error_of_a_newer_broker_is_told_by_its_kind() -> None:
    assert type(translate(errors.for_code(9999)(), WHAT)) is Transient


def test_long_foreign_texts_are_cut() -> None:
    error = translate(errors.InvalidRecordError("x" * 10_000), WHAT)
    assert len(error.what.en) < 400
