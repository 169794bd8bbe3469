"""Marks that only grow, in a cache that can count, set and get, and not compare before it sets.

A client has a counter, and a note for every number that was drawn from it. Who has marks to add
draws a number, reads the notes before it, and writes what they say and what is new as the note of
that number. No note is written by two, so that none is lost to another; and the latest has in it
all that had been written when its number was drawn.
"""

import time
from collections.abc import Mapping
from functools import reduce
from secrets import randbits

from django.core.cache import BaseCache

from django_replicas.marks import Marks, merge
from django_replicas.units import lasting_for_all

from .codec import as_text, marks_in

NOTES = 16
OVERTAKEN_BY = 8
TRIES = 3
SPARE_SECONDS = 60


class GrowingMarks:
    """The marks of one client, under *name*, for so many *seconds* after the last were added.

    What ``add`` is sure of is in every later ``read``, unless the cache drops it. Read are the last
    ``NOTES``. The latest that is there lacks only what was not yet written when its number was
    drawn; and that is in one of the ``OVERTAKEN_BY`` before it, because a writer that more than so
    many have overtaken draws again. The numbers after it are of writers that are not done, or died.
    Where they leave no room for those before it, or notes were dropped, ``read`` knows it.
    """

    def __init__(self, cache: BaseCache, name: str, seconds: int) -> None:
        self._cache = cache
        self._name = name
        self._seconds = seconds

    def read(self) -> Marks | None:
        """Return what was added, None where some of it may be lost."""
        last = self._cache.get(self._name)
        return self._up_to(last) if isinstance(last, int) else {}

    def add(self, marks: Marks) -> bool:
        """Add marks; tell whether they are sure to be read."""
        return any(self._is_added(marks) for _ in range(TRIES))

    def _is_added(self, marks: Marks) -> bool:
        number = self._draw()
        if number is None:
            return False
        before = self._up_to(number - 1)
        known = lasting_for_all() if before is None else before
        self._write(number, as_text(merge(known, marks), time.time()))
        found = self._cache.get_many([self._name, self._note(number)])
        last = found.get(self._name)
        if not isinstance(last, int) or self._note(number) not in found:
            return False
        return 0 <= last - number <= OVERTAKEN_BY

    def _draw(self) -> int | None:
        """Return a number that nobody else has; None where the cache keeps nothing."""
        number = self._next() or self._first()
        # Notes outlive the counter, so that one that is missing was dropped.
        self._cache.touch(self._name, self._seconds)
        return number

    def _next(self) -> int | None:
        try:
            return self._cache.incr(self._name)
        except ValueError:
            return None

    def _first(self) -> int | None:
        # Far from the numbers of a counter that was lost, whose notes may still be there.
        number = randbits(40) << 20
        self._write(number, "")
        self._cache.add(self._name, number, self._seconds)
        return self._next()

    def _up_to(self, last: int) -> Marks | None:
        numbers = {self._note(number): number for number in range(last - NOTES + 1, last + 1)}
        found = self._cache.get_many(numbers)
        latest = max((numbers[key] for key in found), default=last - NOTES)
        if last - latest >= NOTES - OVERTAKEN_BY:
            return None
        return _merged({numbers[key]: text for key, text in found.items()})

    def _write(self, number: int, text: str) -> None:
        self._cache.set(self._note(number), text, self._seconds + SPARE_SECONDS)

    def _note(self, number: int) -> str:
        return f"{self._name}.{number}"


def _merged(notes: Mapping[int, object]) -> Marks:
    now = time.time()
    return reduce(merge, (marks_in(notes[number], now) for number in sorted(notes)), {})
