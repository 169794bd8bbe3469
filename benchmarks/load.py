"""Who visits when: each user draws the same for every contender.

A user looks at a page, thinks, and asks for the next; now and then that is a ``POST``, after which
the browser follows the redirect as fast as the network lets it, and reads back what was written.
That is the hardest read there is for followers: most others come seconds later.
"""

import math
from bisect import bisect
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

THINKING = 3.0  # The mean; exponential, so that there are hasty users.
ROUND_TRIP_SIGMA = 0.5


class Visit(NamedTuple):
    """One request: how many seconds after the user's last response, and whether it writes."""

    rest: float
    writes: bool


class Plan(NamedTuple):
    """How many users come, and when each part ends, in seconds from the start.

    The first part is to warm up: nobody has written when it begins. ``round_trip`` is the median of
    the seconds, lognormal, between a ``POST``'s response and the ``GET`` that it redirects to.
    """

    ends: tuple[float, float, float]
    users: int
    seed: int
    round_trip: float

    def part_of(self, moment: float) -> int:
        return min(bisect(self.ends, moment), len(self.ends) - 1)


def visits(plan: Plan, user: int, writes: float) -> Iterator[Visit]:
    """Yield a user's requests without end, *writes* being the share of those that write."""
    random = Random(f"{plan.seed} {user} {writes}")
    # Each write makes a second request, so that fewer of the decisions are to write.
    chance = writes / (1 - writes)
    yield Visit(random.uniform(0, THINKING), writes=False)
    while True:
        does_write = random.random() < chance
        yield Visit(random.expovariate(1 / THINKING), does_write)
        if does_write:
            redirect = random.lognormvariate(math.log(plan.round_trip), ROUND_TRIP_SIGMA)
            yield Visit(redirect, writes=False)
