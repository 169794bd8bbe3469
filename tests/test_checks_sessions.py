"""The checks of the cache that sessions are put into first."""

import pytest

from django_replicas.checks import check_sessions

OURS = "django_replicas.sessions.write_behind"
BACKENDS = "django.core.cache.backends."


@pytest.fixture
def found(settings):
    """Return the ids of what is found with a cache as ``SESSION_CACHE_ALIAS``."""

    def found(backend, engine=OURS, alias="sessions"):
        settings.SESSION_ENGINE = engine
        settings.SESSION_CACHE_ALIAS = alias
        caches = {"default": {"BACKEND": f"{BACKENDS}dummy.DummyCache"}}
        settings.CACHES = {**caches, "sessions": {"BACKEND": backend, "LOCATION": "cache_table"}}
        return [message.id.partition(".")[2] for message in check_sessions()]

    return found


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("memcached.PyMemcacheCache", []),
        ("redis.RedisCache", []),
        ("locmem.LocMemCache", ["W031"]),
        ("dummy.DummyCache", ["W031"]),
        ("db.DatabaseCache", ["W032"]),
        ("filebased.FileBasedCache", ["W032"]),
    ],
)
def test_the_cache(found, backend, expected):
    """It is shared by all processes, and decides who was first."""
    assert found(BACKENDS + backend) == expected


def test_a_cache_that_is_not_there(found):
    """It is named, before the first request fails."""
    assert found(BACKENDS + "redis.RedisCache", alias="elsewhere") == ["E030"]
    (message,) = check_sessions()
    assert "'elsewhere'" in message.msg


@pytest.mark.parametrize(
    "engine",
    ["django.contrib.sessions.backends.cached_db", "nowhere.at.all", "django_replicas.sessions"],
)
def test_other_engines_are_not_asked_about(found, engine):
    """What is wrong with them is Django's to say."""
    assert found(BACKENDS + "dummy.DummyCache", engine=engine) == []
