"""One contract for Django's session engines and ours: sync and async, on files and on servers."""

import itertools
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import transaction
from django.utils import timezone

from django_replicas import unit_of_work
from django_replicas.sessions.process import drain

from .session_sites import Servers, files

OURS = "django_replicas.sessions.write_behind"
DJANGOS = [f"django.contrib.sessions.backends.{name}" for name in ("db", "cached_db", "cache")]
ENGINES = {
    **{path.rpartition(".")[2]: (path, {}) for path in DJANGOS},
    "write_behind": (OURS, {}),
    "write_behind in step": (OURS, {"WRITE_BEHIND": "sync"}),
}
numbers = itertools.count()


@pytest.fixture(scope="module")
def servers():
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(params=["files", "servers"])
def place(request, databases):
    with ExitStack() as stack:
        if request.param == "files":
            stack.enter_context(files(f"contract {next(numbers)}"))
            stack.callback(drain)
        else:
            stack.enter_context(request.getfixturevalue("servers").in_place())
        yield request.param


class Engine:
    """An engine whose methods are called by their sync names, sync or async."""

    def __init__(self, path, is_async):
        self.path, self.is_async = path, is_async
        self.store = import_module(path).SessionStore
        self.has_rows = not path.endswith("backends.cache")

    def __call__(self, key=None):
        return Called(self.store(key), self.is_async)


class Called:
    def __init__(self, session, is_async):
        self.session, self._is_async = session, is_async

    @property
    def key(self):
        return self.session.session_key

    def __getattr__(self, name):
        if self._is_async:
            return async_to_sync(getattr(self.session, {"set": "aset"}.get(name, f"a{name}")))
        if name == "set":
            return self.session.__setitem__
        return getattr(self.session, name)


@pytest.fixture(params=["sync", "async"])
def is_async(request):
    return request.param == "async"


@pytest.fixture(params=ENGINES)
def engine(request, place, is_async, settings):
    path, keys = ENGINES[request.param]
    settings.SESSION_ENGINE = path
    settings.REPLICAS = {**settings.REPLICAS, **keys}
    return Engine(path, is_async)


def saved(engine, **values):
    session = engine()
    for name, value in values.items():
        session.set(name, value)
    session.save()
    return session


def rows():
    """What the leader has, once everything is written."""
    assert drain(10) == 0
    return {row.session_key: row.get_decoded() for row in Session.objects.using("default").all()}


def expected(engine, **sessions):
    return sessions if engine.has_rows else {}


@unit_of_work
def test_saved_is_loaded(engine):
    """Also in the same unit of work, and by an object of its own."""
    key = saved(engine, name="value").key
    assert engine(key).load() == {"name": "value"}
    assert rows() == expected(engine, **{key: {"name": "value"}})


@unit_of_work
def test_the_last_of_twenty_saves_wins(engine):
    """In the next load, and in the database."""
    session = saved(engine, number=0)
    for number in range(1, 20):
        session.set("number", number)
        session.save()
        assert engine(session.key).load() == {"number": number}
    assert rows() == expected(engine, **{session.key: {"number": 19}})


@unit_of_work
def test_log_out_is_final(engine):
    """What was saved just before does not come back, to nobody."""
    session = saved(engine, name="value")
    key = session.key
    session.set("name", "other")
    session.save()
    session.flush()
    assert session.key is None
    after = engine(key)
    assert (after.load(), after.key) == ({}, None)
    assert not engine().exists(key)
    assert rows() == {}


@unit_of_work
def test_a_save_after_somebody_elses_log_out_is_refused_at_once(engine):
    """Tab A has loaded, tab B logs out, tab A saves."""
    tab_a = engine(saved(engine, name="value").key)
    assert tab_a.get("name") == "value"
    engine(tab_a.key).flush()
    tab_a.set("name", "other")
    with pytest.raises(UpdateError):
        tab_a.save()
    assert engine(tab_a.key).load() == {}
    assert rows() == {}


@unit_of_work
def test_log_in_moves_to_a_new_key(engine):
    """The data moves along, and the old key opens nothing."""
    session = saved(engine, name="value")
    before = session.key
    session.cycle_key()
    session.set("user", 1)
    session.save()
    assert session.key != before
    assert engine(before).load() == {}
    assert engine(session.key).load() == {"name": "value", "user": 1}
    assert rows() == expected(engine, **{session.key: {"name": "value", "user": 1}})


@unit_of_work
def test_log_in_then_log_out(engine):
    """Neither key opens anything, nor has a row."""
    session = saved(engine, name="value")
    before = session.key
    session.cycle_key()
    after = session.key
    session.save()
    session.flush()
    assert [engine(key).load() for key in (before, after)] == [{}, {}]
    assert rows() == {}


def test_a_key_is_made_once(engine):
    """The second creator of a key is refused, and the first one's data stays."""
    session = saved(engine, name="value")
    second = engine(session.key)
    second.set("name", "other")
    with pytest.raises(CreateError):
        second.save(must_create=True)
    assert engine(session.key).load() == {"name": "value"}


def test_a_key_that_nobody_made_is_not_taken(engine):
    """What a client makes up is neither loaded nor saved."""
    made_up = engine("a" * 32)
    assert made_up.load() == {}
    assert made_up.key is None
    made_up.session._session_key = "a" * 32
    made_up.session._session_cache = {}
    made_up.set("name", "value")
    with pytest.raises(UpdateError):
        made_up.save()
    assert not engine().exists("a" * 32)
    assert rows() == {}


@pytest.mark.parametrize("key", ["", "short", None])
def test_keys_of_the_wrong_shape_are_nobodys(engine, key):
    """They are taken for no key at all."""
    session = engine(key)
    assert session.key is None
    assert not session.exists(key)
    session.delete(key)


def test_data_that_cannot_be_stored_is_refused(engine):
    """With the serializer's own error; what was saved before stays."""
    if not engine.has_rows:
        pytest.skip("Django's cache engine stores whatever can be pickled.")
    session = saved(engine, name="value")
    session.set("name", object())
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        session.save()
    assert engine(session.key).load() == {"name": "value"}
    assert rows() == {session.key: {"name": "value"}}


def test_expiry(engine):
    """A session lasts as long as it says; one whose time is over is not loaded."""
    session = saved(engine, name="value")
    session.set_expiry(timedelta(hours=1))
    session.save()
    over = saved(engine, name="over")
    over.set_expiry(-10)
    over.save()
    assert engine(over.key).load() == {}
    rows()
    if engine.has_rows:
        ends = Session.objects.using("default").get(pk=session.key).expire_date
        assert timedelta(minutes=59) < ends - timezone.now() <= timedelta(hours=1)
        session.clear_expired()
        assert [*rows()] == [session.key]


def test_the_cache_forgets(engine):
    """What was written is found again; Django's cache engine has it nowhere else."""
    session = saved(engine, name="value")
    assert set(rows()) == set(expected(engine, **{session.key: 0}))
    cache.clear()
    loaded = engine(session.key)
    assert loaded.load() == expected(engine, name="value")
    if engine.has_rows:
        loaded.set("name", "other")
        loaded.save()
        assert rows() == {session.key: {"name": "other"}}
        cache.clear()
        engine(session.key).flush()
        assert engine(session.key).load() == {}
        assert rows() == {}


def test_inside_a_transaction(engine):
    """A save is part of it, and so is its end."""
    with transaction.atomic():
        session = saved(engine, name="value")
        if engine.has_rows:
            assert Session.objects.using("default").get(pk=session.key)
        session.flush()
    assert rows() == {}
