"""How many reads followers take, and who misses what they wrote: pins, positions and the ideal.

All contenders work at the same time, over the same PostgreSQL leader and its two followers, each in
a process of its own with users of its own; what users do and how followers lag is drawn from one
seed and is the same for all. Every read is of what its user wrote last, so that each one that comes
too early is noticed.

The ideal is seen in the same run, at our own contender. Of each read that it sent to the leader,
both followers are asked at once, on other connections, whether they show what the user wrote last:
where one does, an oracle would have read it there. A ``POST`` begins on the leader in the ideal
too.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from servers.postgres import Cluster

from .contenders import FOLLOWERS, GREEDY, LEADER, MULTIDB, NO_ROUTER, Contender
from .lag import Observer, lagging, summary
from .load import Plan
from .measure import Process, Target, facts, processes
from .offload_site import Tally, prepare, prepare_tables

SHARES = (0.01, 0.05, 0.20)
WITHIN = 0.01
LONGEST_PIN = 15


def _clock(seconds: int) -> Contender:
    marks = {"MARK_STORE": "benchmarks.clocks.ClockStore", "PIN_SECONDS": seconds}
    return replace(GREEDY, name=f"pins of {seconds} s", replicas=marks)


OURS = replace(GREEDY, name="positions")
NO_PINS = replace(GREEDY, name="no pins", replicas={"MARK_STORE": "benchmarks.clocks.NoStore"})
CONTENDERS = (NO_PINS, *map(_clock, (2, 5, LONGEST_PIN)), MULTIDB, OURS)
TABLES = replace(NO_ROUTER, name="tables")


@dataclass(frozen=True)
class Part:
    """What was counted while followers were as they usually are, or while one was stalled."""

    name: str
    tallies: Mapping[str, Tally]
    lags: Mapping[str, Sequence[float]]


def main() -> int:
    arguments = command_line()
    began = time.monotonic()
    # Whoever will be pinned at all is pinned when counting begins.
    warm_up = min(arguments.seconds, LONGEST_PIN)
    ends = (warm_up, warm_up + arguments.seconds, warm_up + 2 * arguments.seconds)
    plan = Plan(ends, arguments.users, arguments.seed, arguments.round_trip)
    with Cluster(major=18) as cluster, lagging(cluster, plan.seed), _sites(cluster) as asked:
        [[version]] = cluster.leader.execute("SHOW server_version")
        about = facts() | {"PostgreSQL": version}
        print(", ".join(f"{name}: {value}" for name, value in about.items()))
        parts = []
        for part in (part for share in SHARES for part in _parts(cluster, asked, plan, share)):
            _show(part)
            parts.append(part)
    print(f"\n{time.monotonic() - began:.0f} seconds in all")
    return report([target for part in parts for target in _targets(part)])


def command_line() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60, help="of each part, of which there are six"
    )
    parser.add_argument("--users", type=int, default=24, help="of each contender")
    parser.add_argument(
        "--round-trip", type=float, default=0.1, help="seconds from a POST to the GET after it"
    )
    parser.add_argument("--seed", type=int, default=20, help="of everything that is chance")
    return parser.parse_args()


@contextmanager
def _sites(cluster: Cluster) -> Iterator[dict[str, Process]]:
    servers = (cluster.leader, *cluster.followers)
    databases = {
        alias: {**server.django_database(), "CONN_MAX_AGE": None}
        for alias, server in zip((LEADER, *FOLLOWERS), servers, strict=True)
    }
    with processes(partial(prepare_tables, databases), [TABLES]) as tables:
        tables[TABLES.name].ask("create", len(CONTENDERS))
    cluster.wait_for_replay()
    with processes(partial(prepare, databases, OURS.name), CONTENDERS) as asked:
        yield asked


def _parts(
    cluster: Cluster, asked: Mapping[str, Process], plan: Plan, share: float
) -> Iterator[Part]:
    """Let the users of all contenders come, and after a while stall the first follower."""
    for process in asked.values():
        process.ask("wait")
    start = time.time() + 0.5
    usual = Observer(cluster.leader, cluster.followers, Random(f"{plan.seed} usual"))
    stalled = Observer(cluster.leader, cluster.followers[1:], Random(f"{plan.seed} stalled"))
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = {
            name: pool.submit(process.ask, "visit", number, start, plan, share)
            for number, (name, process) in enumerate(asked.items())
        }
        _sleep_until(start + plan.ends[0])
        with usual.watching():
            _sleep_until(start + plan.ends[1])
        cluster.followers[0].pause_replay()
        with stalled.watching():
            _sleep_until(start + plan.ends[2])
        cluster.followers[0].resume_replay()
        counted = {name: answer.result() for name, answer in answers.items()}
    cluster.wait_for_replay()
    for number, (name, observer) in enumerate(
        {"": usual, ", one of two followers stalled": stalled}.items(), start=1
    ):
        tallies = {contender: counts[number] for contender, counts in counted.items()}
        yield Part(f"{share:.0%} writes{name}", tallies, observer.lags)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def report(targets: Sequence[Target]) -> int:
    """Print the targets; return the exit status, 1 where one was missed."""
    for target in targets:
        print(f"{'kept  ' if target.kept else 'MISSED'} {target.promise}: {target.found}")
    return 0 if all(target.kept for target in targets) else 1


def _show(part: Part) -> None:
    print(f"\n{part.name:<44}{'reads':>8}{'on followers':>14}{'missing per 10,000':>20}")
    for name, tally in part.tallies.items():
        print(f"  {name:<42}{tally.reads:>8,}{tally.share:>14.1%}{tally.missing_rate:>20.1f}")
        if name == OURS.name:
            print(f"  {'the ideal':<42}{tally.reads:>8,}{tally.ideal:>14.1%}{0:>20.1f}")
    for name, lags in part.lags.items():
        print(f"  {name} lagged, median / 90 % / 99 % / longest of {len(lags)}: {summary(lags)}")
    sys.stdout.flush()


def _targets(part: Part) -> Iterator[Target]:
    tally = part.tallies[OURS.name]
    yield Target(
        f"{part.name}: no own write missing",
        f"{tally.missing} of {tally.reads:,}",
        not tally.missing,
    )
    gap = tally.ideal - tally.share
    yield Target(
        f"{part.name}: within a percentage point of the ideal",
        f"{tally.share:.2%} of {tally.ideal:.2%}",
        gap <= WITHIN,
    )


if __name__ == "__main__":
    sys.exit(main())
