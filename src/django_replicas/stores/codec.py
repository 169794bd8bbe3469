"""Marks as text, for whatever carries them: codec and expiry only."""

import math
import re
from functools import cache, partial
from typing import Any
from urllib.parse import quote, unquote

from django_replicas.conf import get_config
from django_replicas.marks import Mark, Marks
from django_replicas.positions import position_from
from django_replicas.topology import ReplicaSet


def last_of(marks: Marks) -> float:
    """Return the moment after which none of the marks counts, in seconds since the epoch."""
    sets = get_config().topology.by_leader
    return max(_end_of(mark, sets[alias]) for alias, mark in marks.items() if alias in sets)


def _end_of(mark: Mark, replica_set: ReplicaSet) -> float:
    if mark.position is None:
        return mark.deadline
    return max(mark.deadline, _end_of_position(mark, replica_set))


def _end_of_position(mark: Mark, replica_set: ReplicaSet) -> float:
    made = mark.fallback - replica_set.pin_seconds
    return made + replica_set.mark_seconds


def as_text(marks: Marks, now: float) -> str:
    """Write the marks that are not past: ``alias:deadline|alias:deadline:fallback:position``.

    It has no characters that a cookie or a header could not carry as they are; moments are rounded
    up to whole seconds since the epoch.
    """
    return "|".join(
        f"{_quoted(alias)}:{_mark_as_text(mark)}"
        for alias, mark in marks.items()
        if not mark.is_past(now)
    )


def _mark_as_text(mark: Mark) -> str:
    deadline = math.ceil(mark.deadline)
    if mark.position is None:
        return str(deadline)
    return f"{deadline}:{math.ceil(mark.fallback)}:{mark.position}"


def marks_in(text: Any, now: float) -> Marks:
    """Read what ``as_text`` wrote; what is anything else, past or about no leader is left out.

    No deadline is believed to be later than the set's ``PIN_SECONDS`` from now.
    """
    if not isinstance(text, str):
        return {}
    sets = get_config().topology.by_leader
    entries = (entry.split(":", 1) for entry in text.split("|") if ":" in entry)
    read = ((unquote(name), written) for name, written in entries)
    marks = {alias: _mark_in(written, sets[alias], now) for alias, written in read if alias in sets}
    return {alias: mark for alias, mark in marks.items() if not mark.is_past(now)}


def _mark_in(text: str, replica_set: ReplicaSet, now: float) -> Mark:
    match = _WRITTEN_MARK.fullmatch(text)
    if match is None:
        return Mark()
    latest = now + replica_set.pin_seconds
    deadline = min(float(match["deadline"]), latest)
    position = position_from(match["position"] or "")
    if position is None:
        # Of another version of ours, or longer than any that is read.
        return Mark(max(deadline, min(float(match["fallback"] or 0), latest)))
    mark = Mark(deadline, position, min(float(match["fallback"]), latest))
    return mark if _end_of_position(mark, replica_set) > now else Mark(deadline)


# More digits than time has had seconds, and few enough to be read at once.
_WRITTEN_MARK = re.compile(
    "(?P<deadline>[0-9]{1,12})(:(?P<fallback>[0-9]{1,12}):(?P<position>[^:]+))?"
)
_quoted = cache(partial(quote, safe=""))
