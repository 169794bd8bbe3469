"""What the clients of one crew have found, added up."""

import threading
import time
from collections import Counter
from itertools import pairwise

KEPT = 20


class Verdicts:
    """Counts of reads and violations; shared by all clients of a crew."""

    def __init__(self, name):
        self.name = name
        self.counts = Counter()
        self.reads_of = Counter()
        self.examples = []
        self.failures = []
        self._lock = threading.Lock()

    def count(self, what, number=1):
        with self._lock:
            self.counts[what] += number

    def judge(self, seen, expected, **circumstances):
        """Judge one unit of work by the values that it read, and by nothing else."""
        missing = sum(value < expected for value in seen["own"])
        back = steps_back(seen["own"]) + steps_back(seen["shared"])
        with self._lock:
            self.counts.update(
                {"units": 1, "reads": len(seen["aliases"]), "missing": missing, "back": back}
            )
            self.reads_of.update(seen["aliases"])
            if (missing or back) and len(self.examples) < KEPT:
                self.examples.append({"expected": expected, **seen, **circumstances})

    def fail(self, began, **circumstances):
        """Note a request or job that failed, and what was seen of it."""
        with self._lock:
            self.counts["failed"] += 1
            self.failures.append({"began": began, "ended": time.monotonic(), **circumstances})

    def excuse(self, disruptions):
        """Count as failed for no reason what was not in flight while something was broken."""
        self.failures = [each for each in self.failures if not was_in_flight(each, disruptions)]
        self.counts["unexcused"] = len(self.failures)

    @property
    def violations(self):
        return self.counts["missing"] + self.counts["back"]

    def followers_share(self):
        """Return how many of a hundred reads followers answered."""
        at_followers = self.counts["reads"] - self.reads_of["default"]
        return 100 * at_followers / max(1, self.counts["reads"])

    def add(self, other):
        self.counts += other.counts
        self.reads_of += other.reads_of
        self.examples += other.examples
        self.failures += other.failures

    def __str__(self):
        return (
            f"{self.name:<14}{self.counts['reads']:>9,} reads in{self.counts['units']:>8,} units"
            f"{self.followers_share():>6.1f} % at followers"
            f"{self.counts['missing']:>8,} own writes missing"
            f"{self.counts['back']:>8,} steps back in a unit"
            f"{self.counts['writes']:>8,} writes"
            f"{self.counts['jobs']:>7,} jobs"
            f"{self.counts['failed']:>6,} failed"
            f"{self.counts['unexcused']:>5,} of them not in flight"
        )


def was_in_flight(failure, disruptions):
    return any(failure["began"] <= end and begin <= failure["ended"] for begin, end in disruptions)


def steps_back(values):
    return sum(later < earlier for earlier, later in pairwise(values))
