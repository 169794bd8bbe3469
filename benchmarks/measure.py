"""Fair measuring: what is compared runs in the same minute, by turns, and noise has its own row.

Each contender has a process of its own. The alternative, one process whose routers and handlers
are swapped, would not be fair: settings, signal receivers and the wrappers on database connections
stay where one contender put them, and CPython specialises Django's code for whoever ran last.
Processes cost another bias, because each one happens to lie differently in memory. So every
contender gets several of them, one after another, all with the same hash seed; and the baseline
competes against itself in a second process, whose row shows how much noise is left.

Time is the processor's, not the wall's: the databases here never wait for a disk, and so nothing
is left out but the moments in which other programs had the processor. Only one process works at a
time. A round is one batch of each contender for one scenario, in an
order that is shuffled anew each time, and a ratio is taken between two batches of one round. Each
batch is as many calls as take the slowest about ``BATCH_SECONDS``, after an untimed tenth of them,
with all garbage collected and everything older out of the collector's sight (``gc.freeze``).
"""

import gc
import json
import math
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import groupby
from multiprocessing.connection import Connection
from pathlib import Path
from timeit import Timer
from typing import Any

from .contenders import Contender

BATCH_SECONDS = 0.012
WARM_CALLS = 50
FEWEST_ROUNDS = 4
SEED = 20

Answers = Mapping[str, Callable[..., Any]]
Prepare = Callable[[Contender, Path], Answers]


# In a contender's process


def seconds_per_call(timer: Timer, number: int) -> float:
    """Time *number* calls, everything being warm and the collector having nothing to do yet."""
    timer.timeit(number // 10 + 1)
    gc.collect()
    return timer.timeit(number) / number


def _answer(pipe: Connection, prepare: Prepare, contender: Contender, folder: Path) -> None:
    answers = prepare(contender, folder)
    gc.collect()
    gc.freeze()
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(answers[name](*arguments))


# In the process that asks


class Process:
    """A contender at work; it does nothing until it is asked, and ends when nobody can ask."""

    def __init__(self, prepare: Prepare, contender: Contender, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_answer, args=(theirs, prepare, contender, folder), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, arguments))
        return self._pipe.recv()

    def end(self) -> None:
        self._pipe.close()
        self._process.join()


@contextmanager
def processes(
    prepare: Prepare, contenders: Sequence[Contender], hash_seed: int = SEED
) -> Iterator[dict[str, Process]]:
    """Start a process for each contender, by name; all of them end with the block."""
    os.environ["PYTHONHASHSEED"] = str(hash_seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        started: dict[str, Process] = {}
        for number, contender in enumerate(contenders):
            own_folder = folder / str(number)
            own_folder.mkdir()
            started[contender.name] = Process(prepare, contender, own_folder)
            stack.callback(started[contender.name].end)
        yield started


Seconds = dict[str, dict[str, list[float]]]


def measure(
    prepare: Prepare,
    contenders: Sequence[Contender],
    scenarios: Mapping[str, Sequence[str]],
    rounds: int,
    generations: int,
) -> Seconds:
    """Return the seconds per call of every round, by scenario and contender.

    *scenarios* names the contenders of each; the first is its baseline. The rounds are divided
    among so many *generations* of processes.
    """
    seconds: Seconds = {
        scenario: {name: [] for name in names} for scenario, names in scenarios.items()
    }
    shuffle = random.Random(SEED).shuffle
    for generation in range(generations):
        with processes(prepare, contenders, SEED + generation) as asked:
            numbers = {
                scenario: min(_calls_per_batch(asked[name], scenario) for name in names)
                for scenario, names in scenarios.items()
            }
            for _ in range(generation, rounds, generations):
                for scenario, names in scenarios.items():
                    order = list(names)
                    shuffle(order)
                    for name in order:
                        taken = asked[name].ask(scenario, numbers[scenario])
                        seconds[scenario][name].append(taken)
    return seconds


def _calls_per_batch(process: Process, scenario: str) -> int:
    """Return how many calls fill a batch, having warmed up by the way."""
    process.ask(scenario, WARM_CALLS)
    seconds: float = process.ask(scenario, WARM_CALLS)
    return max(10, round(BATCH_SECONDS / seconds))


# What comes of it


@dataclass(frozen=True)
class Ratio:
    """How many times a baseline's seconds something takes: median and quartiles over rounds.

    ``at_least`` is where the median would be if chance had been against it: the lower end of its
    95 % confidence interval by the sign test, which assumes nothing about how noise is spread.
    """

    lower: float
    median: float
    upper: float
    at_least: float

    @classmethod
    def between(cls, seconds: Sequence[float], baseline: Sequence[float]) -> "Ratio":
        pairs = zip(seconds, baseline, strict=True)
        ratios = sorted(own / other for own, other in pairs)
        lower, median, upper = statistics.quantiles(ratios, n=4)
        unlucky = max(0, math.floor(len(ratios) / 2 - math.sqrt(len(ratios))))
        return cls(lower, median, upper, ratios[unlucky])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lower:.2f} - {self.upper:.2f})"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    scenario: str
    contender: str
    ratio: Ratio
    microseconds: float


def rows_of(seconds: Seconds) -> list[Row]:
    """Compare each contender with the first of its scenario."""
    return [
        Row(scenario, name, Ratio.between(own, baseline), statistics.median(own) * 1e6)
        for scenario, by_name in seconds.items()
        for baseline in [next(iter(by_name.values()))]
        for name, own in by_name.items()
    ]


@dataclass(frozen=True)
class Target:
    """What was promised, what was found, and whether the promise was kept."""

    promise: str
    found: str
    kept: bool


def at_most(promise: str, ratio: Ratio, limit: float) -> Target:
    """Expect a ratio of no more than *limit*; what may be noise does not count as more."""
    found = f"{ratio}, at least {ratio.at_least:.2f}, may be {limit:.2f}"
    return Target(promise, found, ratio.at_least <= limit)


def facts() -> dict[str, str]:
    """Tell when, with what and on which machine this was measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in ("Django", "django-replicas", "django-multidb-router")},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "source tree"


def command_line(description: str, rounds: int, page: str | None = None) -> Namespace:
    parser = ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default: {rounds}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    if page is not None:
        parser.add_argument("--publish", action="store_true", help=f"write {page} of this run")
    arguments = parser.parse_args()
    if arguments.rounds < FEWEST_ROUNDS:
        parser.error(f"quartiles need at least {FEWEST_ROUNDS} rounds")
    return arguments


def report(rows: Sequence[Row], targets: Sequence[Target], file: Path | None, began: float) -> int:
    """Print the table and the targets; return the exit status, 1 where a target was missed."""
    about = facts() | {"seconds": f"{time.monotonic() - began:.0f}"}
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    for scenario, group in groupby(rows, key=lambda row: row.scenario):
        print(f"\n{scenario:<44}{'ratio':>7}{'quartiles':>15}{'median':>14}")
        for row in group:
            quartiles = f"{row.ratio.lower:.2f} - {row.ratio.upper:.2f}"
            print(
                f"  {row.contender:<42}{row.ratio.median:>7.2f}{quartiles:>15}"
                f"{row.microseconds:>11.2f} us"
            )
    print()
    for target in targets:
        print(f"{'kept  ' if target.kept else 'MISSED'} {target.promise}: {target.found}")
    if file is not None:
        figures = {
            "facts": about,
            "rows": [asdict(row) for row in rows],
            "targets": [asdict(target) for target in targets],
        }
        file.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(target.kept for target in targets) else 1
