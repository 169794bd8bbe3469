"""Notes in a cache, and a cache that cannot be asked."""

import pytest
from django.core.cache import caches

from django_replicas.liveness import Liveness
from django_replicas.recency import Recency

LOCAL = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "recency"}
PARTIAL = LOCAL | {"BACKEND": f"{__name__}.FullCache"}


class FullCache(type(caches.create_connection("default"))):
    """Keeps nothing under some keys, and says so, as a memcached does that has no room."""

    def set_many(self, data, timeout=None, version=None):
        return [key for key in data if key == "refused"]


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def local(settings):
    settings.CACHES = {"default": LOCAL}
    caches["default"].clear()


def test_what_was_noted_is_found():
    """Each key is its own."""
    recency = Recency("default")
    assert recency.note(["a", "b"], 60)
    assert recency.noted(["a", "b", "c"]) == {"a", "b"}
    assert recency.is_noted("a")
    assert not recency.is_noted("c")


def test_a_key_that_is_refused_is_told(settings):
    """Who asked for the note has to carry the write by other means."""
    settings.CACHES = {"default": PARTIAL}
    recency = Recency("default")
    assert recency.note(["kept"], 60)
    assert not recency.note(["kept", "refused"], 60)


def test_a_cache_that_fails_is_left_alone_for_a_while(settings, caplog):
    """One line says that it went, one that it is back; between them it may hold anything."""
    caplog.set_level("INFO", "django_replicas")
    clock = Clock()
    recency = Recency("default", Liveness(10, clock))
    settings.CACHES = {"default": LOCAL | {"BACKEND": "nowhere.Cache"}}
    for _ in range(3):
        assert recency.noted(["a"]) is None
        assert recency.is_noted("a")
        assert not recency.note(["a"], 60)
    clock.now = 10.0
    assert recency.noted(["a"]) is None, "tried again, and logged no more"
    settings.CACHES = {"default": LOCAL}
    assert recency.noted(["a"]) is None, "not asked yet"
    clock.now = 20.0
    assert recency.noted(["a"]) == frozenset()
    assert recency.note(["a"], 60)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.messages[-1] == "The cache 'default' is back."
