"""What a user's next reads must have reached."""

import time
from collections.abc import Mapping
from typing import NamedTuple


class Mark(NamedTuple):
    """The moment until which a user's reads stay on the leader.

    ``deadline`` is in seconds since the epoch, because marks travel between processes.
    """

    deadline: float

    @classmethod
    def lasting(cls, seconds: float, now: float | None = None) -> "Mark":
        """Make the mark that ends *seconds* from now."""
        return cls((time.time() if now is None else now) + seconds)

    def is_past(self, now: float | None = None) -> bool:
        return self.deadline <= (time.time() if now is None else now)

    def merged(self, other: "Mark") -> "Mark":
        """Return the later of two marks: marks only grow."""
        return max(self, other)


Marks = Mapping[str, Mark]


def merge(marks: Marks, others: Marks) -> dict[str, Mark]:
    """Merge two sets of marks, alias by alias."""
    result = dict(marks)
    for alias, mark in others.items():
        result[alias] = mark.merged(result[alias]) if alias in result else mark
    return result
