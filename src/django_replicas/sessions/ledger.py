"""Which sessions are unwritten, as told to the cache, so that those of a killed process are found.

A cache cannot be searched, and two processes cannot add to one list in it. So each process has a
list of its own, of numbered lines that it alone writes; that it exists is told in one of a few
numbered slots, taken with ``add``. A line may be out of date: the session that it names is looked
at, and where it has its receipt there is nothing to do.
"""

import heapq
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from django.core.cache import BaseCache

logger = logging.getLogger("django_replicas")

PREFIX = "unwritten.replicas"
SLOTS = 512
LINES = 2048
AT_ONCE = 256
WEEK = 7 * 24 * 60 * 60
DAY = 24 * 60 * 60


def _slot(number: int) -> str:
    return f"{PREFIX}.{number}"


def _line(owner: str, number: int) -> str:
    return f"{PREFIX}.{owner}.{number}"


@dataclass
class _Held:
    number: int
    times: int = 0


class Ledger:
    """The list of this process; after a fork the child has one of its own. Safe between threads.

    A cache that fails, or has no slot left, costs the command its knowledge of these sessions and
    nothing else: the next load of each finds it unwritten all the same.
    """

    def __init__(self, lines: int = LINES, clock: Callable[[], float] = time.time) -> None:
        self._lines, self._clock = lines, clock
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._owner = secrets.token_hex(8)
        self._published_at: float | None = None
        self._held: dict[str, _Held] = {}
        self._free = list(range(self._lines))

    def hold(self, key: str, cache: BaseCache) -> Mapping[str, str]:
        """Return the line to be put into the cache, which stays until it is released as often."""
        if os.getpid() != self._pid:
            self._lock = threading.Lock()
            self._begin()
        self._publish(cache)
        with self._lock:
            held = self._held.get(key)
            if held is None:
                if not self._free:
                    return {}
                held = self._held[key] = _Held(heapq.heappop(self._free))
            held.times += 1
            return {_line(self._owner, held.number): key}

    def release(self, key: str, times: int = 1) -> None:
        """Let the line of *key* be used for another session, once everybody has released it."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return
            held.times -= times
            if held.times <= 0:
                heapq.heappush(self._free, self._held.pop(key).number)

    def _publish(self, cache: BaseCache) -> None:
        now = self._clock()
        if self._published_at is not None and now - self._published_at < DAY:
            return
        self._published_at = now
        try:
            taken = cache.get_many([*map(_slot, range(SLOTS))])
            mine = {"owner": self._owner, "lines": self._lines}
            free = (slot for slot in map(_slot, range(SLOTS)) if slot not in taken)
            if not any(cache.add(slot, mine, WEEK) for slot in free):
                logger.warning("No slot is left to tell of unwritten sessions.")
        except Exception as error:  # Each cache raises what its driver raises.
            logger.warning("Unwritten sessions are not told to the cache: %r", error)


def unwritten(cache: BaseCache) -> Iterator[str]:
    """Yield the keys of the sessions that may be unwritten, each once."""
    seen: set[str] = set()
    for process in cache.get_many([*map(_slot, range(SLOTS))]).values():
        line = partial(_line, process["owner"])
        for first in range(0, process["lines"], AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, process["lines"]))
            for key in cache.get_many([*map(line, numbers)]).values():
                if key not in seen:
                    seen.add(key)
                    yield key


ledger = Ledger()
