"""Which sessions are unwritten, as told to the cache, so that those of a killed process are found.

A cache cannot be searched, and two processes cannot add to one list in it. So each process has a
list of its own, of numbered lines that it alone writes; that it exists is told in one of a few
numbered slots, taken with ``add`` and given back at a good end. A line may be out of date: the
session that it names is looked at, and where it has its receipt there is nothing to do.
"""

import atexit
import heapq
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.core.cache import BaseCache, caches

logger = logging.getLogger("django_replicas")

SLOT = "unwritten.replicas"
# Short, because some clients look at every letter to find the server of a key.
LINE = "left"
SLOTS = 512
LINES = 2048
AT_ONCE = 256
# A user's save waits for these.
TRIES = 8
WEEK = 7 * 24 * 60 * 60
# A cache may have been restarted since.
SECONDS_TO_LOOK_AGAIN = 300


def _slot(number: int) -> str:
    return f"{SLOT}.{number}"


def _line(owner: str, number: int) -> str:
    return f"{LINE}.{owner}.{number}"


@dataclass
class _Held:
    number: int
    times: int = 0
    given_up: int = 0


class Ledger:
    """The list of this process; after a fork the child has one of its own. Safe between threads.

    A cache that fails, or has no slot left, costs the command its knowledge of these sessions for
    some minutes, and nothing else: the next load of each finds it unwritten all the same.
    """

    def __init__(self, lines: int = LINES, clock: Callable[[], float] = time.time) -> None:
        self._lines, self._clock = lines, clock
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._owner = secrets.token_urlsafe(6)
        self._description = {"owner": self._owner, "lines": self._lines}
        self._slot: str | None = None
        self._looked_at: float | None = None
        self._held: dict[str, _Held] = {}
        self._free = list(range(self._lines))

    def hold(self, key: str, cache: BaseCache) -> dict[str, str]:
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

    def give_up(self, key: str, times: int) -> None:
        """Leave so many releases to whoever next sees the database *in_step* with the cache."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                held.given_up += times

    def release(self, key: str, times: int = 1, *, in_step: bool = False) -> None:
        """Let the line of *key* be used for another session, once everybody has released it."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return
            if in_step:
                times, held.given_up = times + held.given_up, 0
            held.times -= times
            if held.times <= 0:
                heapq.heappush(self._free, self._held.pop(key).number)

    def _publish(self, cache: BaseCache) -> None:
        now = self._clock()
        if self._looked_at is not None and now - self._looked_at < SECONDS_TO_LOOK_AGAIN:
            return
        self._looked_at = now
        try:
            is_told = self._is_told_in_slot(cache)
        except Exception as error:  # Each cache raises what its driver raises.
            logger.warning("Unwritten sessions are not told to the cache: %r", error)
            return
        if not is_told:
            logger.warning("No slot is left to tell of unwritten sessions.")

    def _is_told_in_slot(self, cache: BaseCache) -> bool:
        if self._slot is not None:
            found = cache.get(self._slot)
            if found == self._description:
                cache.set(self._slot, found, WEEK)
                return True
            if found is None:
                # Not another one: a cache that hides its errors may still have this one.
                return cache.add(self._slot, self._description, WEEK)
        self._slot = _take_slot(cache, self._description)
        return self._slot is not None

    def close(self) -> None:
        """Give the slot back, if nothing is unwritten: processes come and go, slots are few."""
        if os.getpid() != self._pid or self._slot is None or self._held:
            return
        slot, self._slot, self._looked_at = self._slot, None, None
        try:
            cache = caches[settings.SESSION_CACHE_ALIAS]
            # Somebody else has it, where the cache has forgotten it meanwhile.
            if cache.get(slot) == self._description:
                cache.delete(slot)
        except Exception as error:  # Each cache raises what its driver raises.
            logger.info("A slot of the cache stays taken: %r", error)


def _take_slot(cache: BaseCache, mine: dict[str, Any]) -> str | None:
    """Take a slot if one of a few is free; at random, because the first are taken by others."""
    slots = map(_slot, random.sample(range(SLOTS), min(TRIES, SLOTS)))
    return next((slot for slot in slots if cache.add(slot, mine, WEEK)), None)


def unwritten(cache: BaseCache) -> Iterator[str]:
    """Yield the keys of the sessions that may be unwritten, each once."""
    seen: set[str] = set()
    for process in cache.get_many([*map(_slot, range(SLOTS))]).values():
        for key in _lines_of(process, cache):
            if isinstance(key, str) and key not in seen:
                seen.add(key)
                yield key


def _lines_of(process: Any, cache: BaseCache) -> Iterator[Any]:
    match process:
        case {"owner": str(owner), "lines": int(lines)}:
            line = partial(_line, owner)
            for first in range(0, lines, AT_ONCE):
                numbers = range(first, min(first + AT_ONCE, lines))
                yield from cache.get_many([*map(line, numbers)]).values()
        case _:
            logger.warning("The cache held something else than a list of unwritten sessions.")


ledger = Ledger()
# Before the queue has its own end registered, hence after that end.
atexit.register(ledger.close)
