"""Faults that come and go, as a seed says."""

import heapq
import random
import time
from itertools import count

CALM = (0.05, 0.6)
LASTING = {
    "pause": (0.1, 1.5),
    "kill": (0.02, 0.8),
    "reset": (0.05, 0.3),
    "blackhole": (0.1, 1.5),
    "delay": (0.2, 1.0),
}
# What takes open connections away, and with them what is in flight.
BREAKING = {"kill", "reset"}


class Weather:
    """Something befalls each follower, then nothing for a while, then the next thing.

    Each follower has a row of faults of its own, so that several stand still or are away at once.
    All of it is done in the caller's thread, because servers end with the thread that started them.
    """

    def __init__(self, seed, followers, now=time.monotonic, sleep=time.sleep):
        self._now = now
        self._sleep = sleep
        self._order = count()
        self._due = []
        self._ends = {}
        self.seen = []
        self.disruptions = []
        for number, faults in enumerate(followers):
            chance = random.Random(f"{seed}/weather/{number}")
            self._later(chance.uniform(*CALM), number, self._begin, faults, chance)

    def blow(self, seconds):
        """Let faults begin and end for so long, and end what has begun."""
        end = self._now() + seconds
        while self._due and self._due[0][0] < end:
            due, _, number, act, *arguments = heapq.heappop(self._due)
            self._sleep(max(0, due - self._now()))
            act(number, *arguments)
        self._sleep(max(0, end - self._now()))
        self.clear_up()

    def clear_up(self):
        for number in list(self._ends):
            self._ends.pop(number)()

    def _later(self, seconds, *what):
        heapq.heappush(self._due, (self._now() + seconds, next(self._order), *what))

    def _begin(self, number, faults, chance):
        fault = chance.choice(faults)
        began = self._now()
        fault.begin()
        self.seen.append(fault.name)
        if fault.name in BREAKING:
            self.disruptions.append((began, self._now()))
        self._ends[number] = fault.end
        self._later(chance.uniform(*LASTING[fault.name]), number, self._end, faults, chance)

    def _end(self, number, faults, chance):
        if number in self._ends:
            self._ends.pop(number)()
        self._later(chance.uniform(*CALM), number, self._begin, faults, chance)
