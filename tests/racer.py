"""One of several processes that save marks for the same client at once: see test_mark_cache.

    python -m tests.racer CACHES alias count racers

It prints how often it looked, and ends with an error when a mark is missing that was kept before.
"""

import json
import sys
import time

import django
from django.conf import settings
from django.core.cache import cache
from django.http import HttpResponse
from django.test import RequestFactory

from django_replicas.marks import Mark
from django_replicas.positions import WalPosition
from django_replicas.stores import CacheStore

CACHES, alias, count, racers = sys.argv[1:]
ALIASES = [f"leader{number}" for number in range(int(racers))]


def device(request):
    return "one device"


def saved(number):
    response = HttpResponse()
    mark = Mark.at(WalPosition(1, number), 15)
    store.save(request, response, {alias: mark})
    return not response.cookies


def look():
    """See in what is loaded all that anybody was told is kept."""
    kept = cache.get_many([f"kept-{each}" for each in ALIASES])
    loaded = store.load(request)
    for each in ALIASES:
        expected = kept.get(f"kept-{each}", 0)
        mark = loaded.get(each, Mark())
        found = getattr(mark.position, "lsn", 0)
        assert found >= expected, f"{each}: {found} < {expected}"
        assert mark.deadline == 0, "it is in doubt"


if __name__ == "__main__":
    settings.configure(
        CACHES=json.loads(CACHES),
        SECRET_KEY="not a secret",
        REPLICAS={
            "SETS": {each: [] for each in ALIASES},
            "MARK_STORE": "cache",
            "MARK_KEY": "tests.racer.device",
        },
    )
    django.setup()
    store, request = CacheStore(), RequestFactory().get("/")
    cache.add("ready", 0)
    cache.incr("ready")
    end = time.monotonic() + 60
    while cache.get("ready") < int(racers):
        assert time.monotonic() < end
    for number in range(1, int(count) + 1):
        if saved(number):
            cache.set(f"kept-{alias}", number)
        look()
    print(cache.get(f"kept-{alias}", 0))
