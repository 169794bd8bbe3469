"""What a user's next reads must have reached."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from .positions import Position


class Mark(NamedTuple):
    """What a user's reads of one set must not miss.

    Until ``deadline`` they stay on the leader. After it they may go to any follower that has
    replayed ``position``; where that cannot be compared, because another server leads now, they
    stay on the leader until ``fallback``. Both are seconds since the epoch, because marks travel
    between processes.
    """

    deadline: float = 0.0
    position: Position | None = None
    fallback: float = 0.0

    @classmethod
    def lasting(cls, seconds: float, now: float | None = None) -> "Mark":
        """Make the mark that ends *seconds* from now."""
        return cls((time.time() if now is None else now) + seconds)

    @classmethod
    def at(cls, position: Position, seconds: float, now: float | None = None) -> "Mark":
        """Make the mark of a position, good for *seconds* from now where it cannot be compared."""
        return cls(0.0, position, (time.time() if now is None else now) + seconds)

    def is_past(self, now: float | None = None) -> bool:
        """Tell whether there is nothing to wait for."""
        return self.position is None and not self.is_before_deadline(now)

    def is_before_deadline(self, now: float | None = None) -> bool:
        return self.deadline > (time.time() if now is None else now)

    def without_position(self) -> "Mark":
        """Return what is left of the mark where its position says nothing."""
        return Mark(max(self.deadline, self.fallback))

    def merged(self, other: "Mark") -> "Mark":
        """Return the mark that has both in it: marks only grow."""
        deadline = max(self.deadline, other.deadline)
        if self.position is None or other.position is None:
            return Mark(
                deadline, self.position or other.position, max(self.fallback, other.fallback)
            )
        earlier, later = sorted((self, other), key=lambda mark: mark.fallback)
        both = self.position.merged(other.position)
        if both is None:
            deadline = max(deadline, earlier.fallback)
        return Mark(deadline, both or later.position, later.fallback)


Marks = Mapping[str, Mark]


class UnknownMarks(dict[str, Mark]):
    """Marks in place of those that cannot be asked for here, as on an event loop.

    They keep every set on its leader. No unit keeps to them: it asks again.
    """


def merge(marks: Marks, others: Marks) -> dict[str, Mark]:
    """Merge two sets of marks, alias by alias."""
    result = dict(marks)
    for alias, mark in others.items():
        result[alias] = mark.merged(result[alias]) if alias in result else mark
    return result
