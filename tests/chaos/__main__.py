"""``python -m tests.chaos``: play seeds, print what was broken and what was found.

Exit code 0 when every seed ended with nothing lost, duplicated or unverifiable and every worker
stopped in order; else 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from tests.chaos.play import Result, play

PLANTS = {"commit-before-write": "tests.chaos.planted"}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--first", type=int, default=1, help="the first one (default 1)")
    parser.add_argument("--seconds", type=float, default=25, help="of trouble (default 25)")
    parser.add_argument("--plant", choices=PLANTS, help="run workers with this bug planted")
    parser.add_argument("--keep", help="keep the folder of a seed that fails under this one")
    args = parser.parse_args(arguments)
    results: list[Result] = []
    for seed in range(args.first, args.first + args.seeds):
        module = PLANTS[args.plant] if args.plant else "exchange"
        try:
            result = play(seed, args.seconds, module=module, keep=args.keep)
        except Exception as error:  # noqa: BLE001 - told as this seed's failure; the others go on
            result = Result(seed, wrong=[f"the harness failed: {error!r}"])
        results.append(result)
        print("\n".join(result.lines()), flush=True)  # noqa: T201 - the output of a program
    print(summary(results), flush=True)  # noqa: T201
    return 0 if all(result.ok for result in results) else 1


def summary(results: Sequence[Result]) -> str:
    """Add up all seeds."""
    items = [result.findings for result in results]
    undone = sorted({what for result in results for what in result.undone})
    failed = [str(result.seed) for result in results if not result.ok]
    return "\n".join(
        [
            f"{len(results)} seeds in {sum(result.seconds for result in results):.0f} s: "
            f"{sum(item.rows for item in items):,} rows, {sum(entry.batches for entry in items):,} "
            f"batches, {sum(item.receipts for item in items):,} receipts · "
            f"lost {sum(len(item.lost) for item in items)}, "
            f"duplicated {sum(len(item.duplicated) for item in items)}, "
            f"unverifiable {sum(len(one.unverifiable) for one in items)}"
            + (f" · FAILED: seeds {', '.join(failed)}" if failed else " · all passed"),
            *(f"!!! NOT DONE: {what}" for what in undone),
        ]
    )


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # so that nothing is left running or mounted
        signal.signal(number, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
