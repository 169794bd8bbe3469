"""Many people on the site at once."""

import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from random import Random
from threading import Event

from example.people import Person
from example.tally import Tally

FIRST_NAMES = ("ada", "alan", "barbara", "charles", "donald", "edsger", "grace", "leslie", "mary")
TICK = 0.1


def let_a_crowd_in(
    port: int, surname: str, *, size: int, seconds: float, seed: int, show: Callable[[float], None]
) -> Tally:
    """Let people use the site for a while and add up what they saw; `show` is told the progress."""
    closing_time = Event()
    people = [
        Person(f"{name}-{surname}", port, Random(f"{seed} {name} {surname}"), closing_time)
        for name in islice(first_names(), size)
    ]
    for person in people:
        person.start()
    for passed in ticks(seconds):
        show(passed / seconds)
    closing_time.set()
    for person in people:
        person.join()
    return sum((person.tally for person in people), Tally())


def first_names() -> Iterator[str]:
    """Yield names without end: ada, alan, ..., ada2, alan2, ..."""
    yield from FIRST_NAMES
    for number in count(2):
        yield from (f"{name}{number}" for name in FIRST_NAMES)


def ticks(seconds: float) -> Iterator[float]:
    """Yield the time that has passed, again and again, until so many seconds have."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        yield passed
        time.sleep(TICK)
