"""How far behind is too far: what is made of what servers say."""

import pytest

from django_replicas.conf import read_config
from django_replicas.lag import Progresses, why_too_far
from django_replicas.replication import CUT_OFF, Lag, Progress
from django_replicas.topology import MaxLag

SECONDS, BYTES = MaxLag(seconds=5.0), MaxLag(bytes=1000)


def limit(value, **own):
    """Return what a set is told by ``MAX_LAG`` at the top, and by its own."""
    config = read_config({"MAX_LAG": value, "SETS": {"default": {"FOLLOWERS": ["a"], **own}}})
    assert config.problems == ()
    return config.topology.by_leader["default"].max_lag


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, MaxLag(seconds=5.0)),
        (0.5, MaxLag(seconds=0.5)),
        ("100B", MaxLag(bytes=100)),
        ("64kB", MaxLag(bytes=64 * 1024)),
        ("16MB", MaxLag(bytes=16 * 1024**2)),
        ("1 GB", MaxLag(bytes=1024**3)),
        ("2TB", MaxLag(bytes=2 * 1024**4)),
        (None, None),
    ],
)
def test_the_setting(value, expected):
    """A number is seconds, text is bytes in PostgreSQL's units, and None is no limit."""
    assert limit(value) == expected
    assert limit(1, MAX_LAG=value) == expected


def test_without_the_setting():
    """Nobody is passed over who did not ask for it."""
    config = read_config({"SETS": {"default": ["a"]}})
    assert config.topology.by_leader["default"].max_lag is None


@pytest.mark.parametrize("value", ["16", "16mb", "MB", "0MB", "-1MB", "1.5MB", "soon", ""])
def test_text_that_is_no_amount(value):
    """What has no unit, or one that PostgreSQL does not know, is named with an example."""
    assert read_config({"MAX_LAG": value}).problems == (
        'REPLICAS["MAX_LAG"] must be a number of seconds, or of bytes as in "64kB", "16MB" and '
        f'"1GB", not {value!r}.',
    )


@pytest.mark.parametrize("value", [0, -1, True, [], float("nan")])
def test_values_that_are_no_lag(value):
    """Nor is a lag of no time at all: no follower could keep to it."""
    (problem,) = read_config({"MAX_LAG": value}).problems
    assert problem.startswith('REPLICAS["MAX_LAG"] must be a number of seconds')


def test_how_limits_are_shown():
    """As people would say them."""
    assert (str(SECONDS), str(BYTES)) == ("5 s", "1000 bytes")


@pytest.mark.parametrize(
    ("limit", "lag", "why"),
    [
        (SECONDS, Lag(bytes=0, seconds=0.0), None),
        (SECONDS, Lag(bytes=9, seconds=5.0), None),
        (SECONDS, Lag(bytes=9, seconds=5.1), "it is at most 5.1 s behind, and MAX_LAG is 5 s"),
        (SECONDS, Lag(transactions=9), "nobody knows for how long it has been behind"),
        (BYTES, Lag(bytes=1000, seconds=99.0), None),
        (BYTES, Lag(bytes=1001), "it is 1001 bytes behind, and MAX_LAG is 1000 bytes"),
        (BYTES, Lag(transactions=1), 'its lag is not known in bytes: give "MAX_LAG" in seconds'),
    ],
)
def test_too_far(limit, lag, why):
    """What is not known is too far."""
    assert why_too_far(limit, Progress("0/1"), lag) == why


@pytest.mark.parametrize("limit", [SECONDS, BYTES])
def test_cut_off(limit):
    """One that receives nothing is behind from the next write on, whatever it shows now."""
    assert why_too_far(limit, Progress("0/1", receives=False), Lag(bytes=0, seconds=0)) == CUT_OFF
    assert why_too_far(limit, Progress("0/1", receives=True), Lag(bytes=0, seconds=0)) is None


def test_a_follower_whose_position_is_not_to_be_had():
    """The reason is what its server said."""
    assert why_too_far(SECONDS, Progress(note="it is no standby"), Lag()) == "it is no standby"


@pytest.fixture
def progresses():
    """Have asked a leader at 10, 20 and 30 seconds; it wrote between 20 and 30 only."""
    progresses = Progresses()
    for moment, position in ((10, "0/100"), (20, "0/100"), (30, "0/200")):
        progresses.note(moment, Progress(position))
    return progresses


def test_a_follower_that_has_all(progresses):
    """However old the last write is."""
    lag = progresses.lag("postgresql", Progress("0/200", 3600.0), 31)
    assert lag == Lag(bytes=0, seconds=0.0)


def test_the_first_write_after_a_quiet_hour(progresses):
    """A follower that showed all 11 seconds ago is no more than these behind."""
    lag = progresses.lag("postgresql", Progress("0/100", 3600.0), 31)
    assert lag == Lag(bytes=256, seconds=11)


def test_a_busy_leader(progresses):
    """Where the last write that it replayed is younger, that is what it is behind."""
    assert progresses.lag("postgresql", Progress("0/180", 2.0), 31) == Lag(bytes=128, seconds=2.0)


def test_a_follower_that_tells_no_time():
    """On MariaDB the leader's own answers tell; a follower older than all of them is not known."""
    progresses = Progresses()
    progresses.note(10, Progress("0-1-7"))
    progresses.note(20, Progress("0-1-9"))
    assert progresses.lag("mysql", Progress("0-1-8"), 21) == Lag(transactions=1, seconds=11)
    assert progresses.lag("mysql", Progress("0-1-6"), 21) == Lag(transactions=3)


def test_no_more_is_remembered_than_is_of_use():
    """A process that runs for a year does not keep a year of positions."""
    progresses = Progresses()
    for moment in range(1000):
        progresses.note(moment, Progress(f"0-1-{moment}"))
    assert progresses.lag("mysql", Progress("0-1-900"), 1000).seconds == 100
    assert progresses.lag("mysql", Progress("0-1-899"), 1000).seconds is None
