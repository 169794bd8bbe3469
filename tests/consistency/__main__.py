"""The long version: ``make consistency``, or ``python -m tests.consistency --help``.

Ctrl-C ends it with the sums of what has been found so far.
"""

import argparse
import random
import signal
import sys
from contextlib import suppress
from itertools import count

from servers.mariadb import MariaDBNotFound
from servers.postgres_bindir import PostgresNotFound

from .crews import OURS, WAYS
from .histories import KINDS, History
from .verdicts import Verdicts


def main():
    options = arguments()
    # A shell that starts us in the background lets us ignore this one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    totals = {way: Verdicts(way.name) for way in WAYS}
    lost = []
    with suppress(KeyboardInterrupt):
        for history in histories(options, totals[OURS]):
            print(history.report(), flush=True)
            tell_of(history.verdicts_of(OURS))
            lost.append(history.lost)
            for way, verdicts in totals.items():
                verdicts.add(history.verdicts_of(way))
    print(f"\nIn all, {len(lost)} histories")
    for verdicts in totals.values():
        print(f"  {verdicts}")
    print(f"  commits lost with a leader, counted apart: {sum(lost)}")
    ours = totals[OURS]
    return 1 if ours.violations or ours.failures else 0


def histories(options, ours):
    """Yield what has happened, one kind after another, each round with a seed of its own."""
    for number in count():
        for kind in options.kinds:
            has_enough = ours.counts["reads"] >= options.reads
            if number == options.rounds or (not options.rounds and number > 0 and has_enough):
                return
            try:
                yield History(kind, options.seed + number, options.seconds).run()
            except (MariaDBNotFound, PostgresNotFound) as error:
                print(f"{kind} was left out: {error}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.consistency", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=30, help="of each history")
    parser.add_argument("--reads", type=int, default=200_000, help="with marks, at least")
    parser.add_argument("--rounds", type=int, help="instead: so often all kinds")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    return parser.parse_args()


def tell_of(verdicts):
    for example in verdicts.examples:
        print(f"  VIOLATION: {example}", flush=True)
    for failure in verdicts.failures:
        print(f"  NOT IN FLIGHT: {failure}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
