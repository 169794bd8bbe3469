"""The checker, for some seconds on each kind of servers; ``make consistency`` takes its time."""

import os
import random
import time

import pytest

from servers.mariadb import MariaDBNotFound
from servers.postgres_bindir import PostgresNotFound

from .clients import Survivors
from .crews import NAIVE, OURS, WAYS, WITHOUT_MARKS
from .histories import History
from .verdicts import Verdicts
from .weather import Weather
from .worlds import Fault

SEED = int(os.environ.get("DJANGO_REPLICAS_SEED") or random.SystemRandom().randrange(10**6))
SECONDS = 3
PATIENCE = 60


def found_in(kind, ways, **how):
    """Let one history happen; what it found is printed, and shown where the test fails."""
    history = History(kind, SEED, SECONDS, ways, **how)
    try:
        history.run()
    except (PostgresNotFound, MariaDBNotFound) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    finally:
        print(history.report())
    return history


def check_promises(history):
    ours = history.verdicts_of(OURS)
    assert ours.violations == 0, (history.report(), ours.examples)
    assert ours.counts["reads"] > ours.counts["units"] > 0
    assert ours.counts["writes"] > 0
    assert ours.followers_share() > 0
    assert ours.failures == []


def test_what_marks_are_for():
    """Nothing of one's own is missing with marks; without them it is, on the same servers."""
    began = time.monotonic()
    history = found_in(
        "postgresql-18",
        WAYS,
        goes_on=lambda it: not shows_them(it) and time.monotonic() < began + PATIENCE,
    )
    check_promises(history)
    assert shows_them(history), history.report()


def shows_them(history):
    """Tell whether the checker has seen what it is there for: an idle machine takes its time."""
    without, naive = map(history.verdicts_of, (WITHOUT_MARKS, NAIVE))
    return without.counts["missing"] and naive.counts["back"]


@pytest.mark.parametrize("kind", ["postgresql-16-failover", "mariadb"])
def test_promises_hold(kind):
    """Also where another server takes over, and with MariaDB's positions."""
    check_promises(found_in(kind, [OURS]))


# The checker itself


def seen(own, shared=(1, 1)):
    return {"own": own, "shared": list(shared), "aliases": ["replica1"] * 4}


def test_a_judge_goes_by_values():
    """Less than was written is missing, and later reads of a unit may not show less."""
    verdicts = Verdicts("somebody")
    verdicts.judge(seen([5, 5]), expected=5)
    assert verdicts.violations == 0
    verdicts.judge(seen([4, 4]), expected=5)
    assert (verdicts.counts["missing"], verdicts.counts["back"]) == (2, 0)
    verdicts.judge(seen([5, 4]), expected=4)
    verdicts.judge(seen([5, 5], shared=(9, 8)), expected=5)
    assert (verdicts.counts["missing"], verdicts.counts["back"]) == (2, 2)
    assert (verdicts.counts["units"], verdicts.counts["reads"]) == (4, 16)
    assert [each["expected"] for each in verdicts.examples] == [5, 4, 5]


def test_only_what_was_in_flight_is_excused():
    """A request that began after a server was gone had no reason to fail."""
    verdicts = Verdicts("somebody")
    began = time.monotonic()
    verdicts.fail(began, owner="me")
    verdicts.fail(began + 1000, owner="you")
    verdicts.excuse([(began - 2, began - 1), (began - 1, began + 1)])
    assert [each["owner"] for each in verdicts.failures] == ["you"]
    assert (verdicts.counts["failed"], verdicts.counts["unexcused"]) == (2, 1)


def test_what_a_lost_leader_had_alone_is_counted_apart():
    """Until it is known what survived, everything must be seen."""
    survivors = Survivors()
    written = {1111: 7}
    assert (survivors.of(written, "me"), survivors.lost(written, "me")) == (7, 0)
    survivors.note(1111, {"me": 5})
    assert (survivors.of(written, "me"), survivors.lost(written, "me")) == (5, 2)
    written[2222] = 8
    assert (survivors.of(written, "me"), survivors.lost(written, "me")) == (8, 2)


@pytest.mark.parametrize("seed", [1, 2])
def test_weather_comes_from_its_seed(seed):
    """The same seed brings the same faults, and every one of them ends."""
    assert blown(seed) == blown(seed) != blown(seed + 2)
    for told in blown(seed)[0]:
        assert told.count("begin") == told.count("end") > 3


def blown(seed):
    clock = [0.0]
    told = [[], []]

    def fault(name, heard):
        return Fault(name, lambda: heard.append("begin"), lambda: heard.append("end"))

    def sleep(seconds):
        clock[0] += seconds

    faults = [[fault(name, heard) for name in ("pause", "kill")] for heard in told]
    weather = Weather(seed, faults, now=lambda: clock[0], sleep=sleep)
    weather.blow(20)
    return told, weather.seen
