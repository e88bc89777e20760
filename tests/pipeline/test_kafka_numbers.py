"""Many partitions take batch numbers at once on a cluster: each gets its own, and soon."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier

from exchange.devtools.servers.kafka import Cluster
from exchange.errors import Transient
from exchange.log import Fenced
from exchange.pipeline.context import PipelineContext
from exchange.pipeline.numbers import take_numbers
from exchange.pipeline.partition import BLOCK, PartitionState
from tests.publish.conftest import kafka_log
from tests.publish.place import catalog

WORKERS = 4
TURNS = 5
DAY = "20261123"


def numbered(
    context: PipelineContext, resource: str, partition: int, state: PartitionState
) -> PartitionState:
    """Take numbers as the seal stage does, which forgets what failed and tries again.

    A broker that ends a transaction while another worker claims its owner may know no better
    answer than UNKNOWN_SERVER_ERROR.
    """
    for _ in range(WORKERS * TURNS):
        try:
            return take_numbers(context, resource, partition, state, DAY)
        except Fenced:
            raise
        except Transient:
            continue
    raise AssertionError("no numbers to be had")


def test_workers_that_take_numbers_at_once_do_not_keep_each_other_from_it(
    kafka_broker: Cluster,
) -> None:
    """Each attempt stops those of the others that are under way: somebody has to step back."""
    resource = f"r{os.urandom(4).hex()}"
    together = Barrier(WORKERS)

    with ExitStack() as stack:
        contexts = [
            PipelineContext(
                catalog(resource),
                stack.enter_context(kafka_log(kafka_broker.bootstrap)),
                lambda: datetime.now(UTC),
                os.urandom,
            )
            for _ in range(WORKERS)
        ]

        def work(number: int) -> list[int]:
            state, firsts = PartitionState(), []
            for _ in range(TURNS):
                together.wait(300)
                state = numbered(contexts[number], resource, number, state)
                firsts.append(state.number + 1)
                state = replace(state, number=state.upto)
            return firsts

        with ThreadPoolExecutor(WORKERS) as pool:
            ordered_items = sorted(
                first for firsts in pool.map(work, range(WORKERS)) for first in firsts
            )
    assert ordered_items == [1 + BLOCK * number for number in range(WORKERS * TURNS)]
