"""The short version of the races, which ``make races`` runs at length: nothing is lost or revived.

On real PostgreSQL behind a proxy that delays it at random, with real memcached and two processes.
"""

import random

import pytest

from .races.driver import Site
from .races.scenarios import COUNTED, SCENARIOS, run

SHORT = (
    "requests in a row, with pauses",
    "tab B logs out, tab A saves",
    "leader down while everyone saves",
    "all at random, processes killed",
)


@pytest.fixture(scope="module")
def site():
    with Site("django-replicas", 20, 40, 2, random.Random("short")) as site:
        yield site


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_or_comes_back(site, name):
    """Nobody reads old data, nobody is logged in again, and threads stay below their bound."""
    play, options = SCENARIOS[name]
    counts = run(site, play, users=4, rounds=2, seed="short", **options)
    assert counts["requests"] > 0
    assert {each: counts[each] for each in COUNTED if each != "threads"} == {
        each: 0 for each in COUNTED if each != "threads"
    }
    assert 0 < counts["threads"] <= 4
