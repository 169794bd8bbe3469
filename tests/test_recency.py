"""Notes in a cache, and a cache that cannot be asked."""

import pytest
from django.core.cache import caches

from django_replicas.liveness import Liveness
from django_replicas.notebooks import Notebook
from django_replicas.recency import Recency
from django_replicas.units import Unit

LOCAL = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "recency"}
PARTIAL = LOCAL | {"BACKEND": f"{__name__}.FullCache"}


class FullCache(type(caches.create_connection("default"))):
    """Keeps nothing under some keys, and says so, as a memcached does that has no room."""

    def set_many(self, data, timeout=None, version=None):
        taken = {key: value for key, value in data.items() if key != "refused"}
        return ["refused"] * (len(taken) < len(data)) + super().set_many(taken, timeout, version)


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
    assert keeps(recency, "a", "b") == {"a", "b"}
    assert recency.noted(["a", "b", "c"]) == {"a", "b"}
    assert recency.is_noted("a")
    assert not recency.is_noted("c")


def keeps(recency, *keys):
    """Have a write noted under the keys; return those that are."""
    return recency.kept(keys, recency.note(dict.fromkeys(keys, 60.0)))


def test_a_key_that_is_refused_is_told(settings):
    """Who asked for the note has to carry the write by other means."""
    settings.CACHES = {"default": PARTIAL}
    recency = Recency("default")
    assert keeps(recency, "kept") == {"kept"}
    assert keeps(recency, "kept", "refused") == {"kept"}


@pytest.mark.parametrize("backend", ["dummy.DummyCache", "db.DatabaseCache"])
def test_a_cache_that_keeps_nothing_and_says_nothing(backend, settings):
    """The dummy never does, one in the database while its table is missing."""
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
    assert keeps(Recency("default"), "a") == frozenset()


def test_a_cache_that_is_full(settings):
    """What it drops for want of room counts as dropped."""
    settings.CACHES = {"default": LOCAL | {"OPTIONS": {"MAX_ENTRIES": 3, "CULL_FREQUENCY": 0}}}
    assert keeps(Recency("default"), "a", "b", "c", "d") == {"d"}


def test_an_older_note_is_not_taken_for_the_new_one(settings):
    """It would end before the followers have the write; what is no note at all is none."""
    settings.CACHES = {"default": PARTIAL}
    for older in (1.0, "of somebody else"):
        super(FullCache, caches["default"]).set_many({"refused": older})
        assert keeps(Recency("default"), "refused") == frozenset()


def test_each_key_is_noted_for_its_own_time(settings):
    """One unit may write to sets whose followers lag differently."""
    recency = Recency("default")
    moment = recency.note({"short": -5.0, "long": 60.0})
    assert recency.kept(["short", "long"], moment) == {"long"}


def test_a_cache_that_fails_is_left_alone_for_a_while(settings, caplog):
    """One line says that it went, one that it is back; between them it may hold anything."""
    caplog.set_level("INFO", "django_replicas")
    clock = Clock()
    recency = Recency("default", Liveness(10, clock))
    settings.CACHES = {"default": LOCAL | {"BACKEND": "nowhere.Cache"}}
    for _ in range(3):
        assert recency.noted(["a"]) is None
        assert recency.is_noted("a")
        assert not keeps(recency, "a")
    clock.now = 10.0
    assert recency.noted(["a"]) is None, "tried again, and logged no more"
    settings.CACHES = {"default": LOCAL}
    assert recency.noted(["a"]) is None, "not asked yet"
    clock.now = 20.0
    assert recency.noted(["a"]) == frozenset()
    assert keeps(recency, "a")
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.messages[-1] == "The cache 'default' is back."


async def test_an_event_loop_says_nothing_about_the_cache(settings, caplog):
    """A cache in the database refuses to be asked there; it is as well as before."""
    backend = "django.core.cache.backends.db.DatabaseCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "cached"}}
    liveness = Liveness(60)
    recency = Recency("default", liveness)
    assert recency.noted(["key"]) is None
    assert recency.is_noted("key")
    assert recency.kept(["key"], recency.note({"key": 60})) == frozenset()
    assert liveness.is_up("default")
    assert not caplog.records


def test_who_lost_its_notes_may_be_behind():
    """Nothing is asked; in doubt there was something."""
    notebook = Notebook(Unit(), lambda model: None)
    notebook._has_lost_notes = True
    assert notebook.may_be_behind()
