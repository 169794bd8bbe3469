"""How far behind is too far, and since when a follower is."""

from collections import deque
from dataclasses import replace

from .replication import CUT_OFF, Lag, Progress, lag_between
from .topology import MaxLag

REMEMBERED = 100


class Progresses:
    """What a leader said of its progress when it was asked, the latest hundred times.

    It tells the age of what a follower shows where the follower itself cannot: on MariaDB always,
    on PostgreSQL after a quiet hour, when a write that is a second old is the first one since.
    """

    def __init__(self) -> None:
        self._asked: deque[tuple[float, Progress]] = deque(maxlen=REMEMBERED)

    def note(self, moment: float, leader: Progress) -> None:
        self._asked.append((moment, leader))

    def lag(self, vendor: str, follower: Progress, now: float) -> Lag:
        """Compare a follower's progress with its leader's latest; moments are of one clock."""
        lag = lag_between(vendor, self._asked[-1][1], follower)
        if has_all(lag):
            return lag
        told = (lag.seconds, self._age(vendor, follower, now))
        seconds = min((each for each in told if each is not None), default=None)
        return replace(lag, seconds=seconds)

    def _age(self, vendor: str, follower: Progress, now: float) -> float | None:
        for moment, leader in reversed(self._asked):
            if has_all(lag_between(vendor, leader, follower)):
                return now - moment
        return None


def has_all(lag: Lag) -> bool:
    """Tell whether a follower has all that its leader had when it was asked."""
    return 0 in {lag.bytes, lag.transactions}


def why_too_far(limit: MaxLag, follower: Progress, lag: Lag) -> str | None:
    """Say why a follower is further behind than it may be, or may be so; None where it is not."""
    if follower.receives is False:
        return CUT_OFF
    if follower.note is not None:
        return follower.note
    if limit.bytes is not None:
        return _why_too_many(limit, lag)
    if lag.seconds is None:
        return "nobody knows for how long it has been behind"
    if lag.seconds <= (limit.seconds or 0):
        return None
    return f"it is at most {lag.seconds:.1f} s behind, and MAX_LAG is {limit}"


def _why_too_many(limit: MaxLag, lag: Lag) -> str | None:
    if lag.bytes is None:
        return 'its lag is not known in bytes: give "MAX_LAG" in seconds'
    if lag.bytes <= (limit.bytes or 0):
        return None
    return f"it is {lag.bytes} bytes behind, and MAX_LAG is {limit}"
