"""What the contract does not reach: caches that fail, keys that are taken, writes that meet."""

import itertools

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.backends.cached_db import SessionStore as CachedDBStore
from django.contrib.sessions.backends.db import SessionStore as DBStore
from django.contrib.sessions.models import Session
from django.core.cache import cache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import SuspiciousOperation
from django.core.management import CommandError, call_command
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    models,
    transaction,
)
from django.db.models.signals import pre_save
from django.test.utils import CaptureQueriesContext

from django_replicas import unit_of_work
from django_replicas.sessions import cells, outcomes, write_behind
from django_replicas.sessions.cells import Cells, Kept, Shelf, unpacked
from django_replicas.sessions.ledger import ledger
from django_replicas.sessions.outcomes import Outcome
from django_replicas.sessions.queue import Queue
from django_replicas.sessions.receipts import Receipts
from django_replicas.sessions.rows import Row
from django_replicas.sessions.versions import UNKNOWN, version_of
from django_replicas.sessions.write_behind import SessionStore
from django_replicas.sessions.writing import Erase, Recall, Write
from django_replicas.signals import session_write

from .session_sites import LOCMEM

numbers = itertools.count()


class FailingCache(LocMemCache):
    """A cache whose calls named here fail, by an error or by doing nothing."""

    failing = frozenset()
    refusing = frozenset()

    def _fail(self, name):
        if name in self.failing:
            raise OSError(f"no {name}")

    def get_many(self, *args, **kwargs):
        self._fail("get_many")
        return super().get_many(*args, **kwargs)

    def get(self, *args, **kwargs):
        self._fail("get")
        return super().get(*args, **kwargs)

    def set(self, *args, **kwargs):
        self._fail("set")
        return super().set(*args, **kwargs)

    def set_many(self, data, *args, **kwargs):
        self._fail("set_many")
        return [*data] if "set_many" in self.refusing else super().set_many(data, *args, **kwargs)

    def add(self, *args, **kwargs):
        self._fail("add")
        return "add" not in self.refusing and super().add(*args, **kwargs)

    def delete(self, *args, **kwargs):
        self._fail("delete")
        return super().delete(*args, **kwargs)


class CountingCache(LocMemCache):
    """A cache that notes how it is asked, and for how many keys."""

    def _note(self, name, keys=1):
        self.asked.append((name, keys))

    def get_many(self, keys, **kwargs):
        self._note("get_many", len(keys))
        return {key: value for key in keys if (value := super(CountingCache, self).get(key))}

    def set_many(self, data, timeout):
        self._note("set_many", len(data))
        for key, value in data.items():
            super().set(key, value, timeout)

    def get(self, *args, **kwargs):
        self._note("get")
        return super().get(*args, **kwargs)

    def set(self, *args, **kwargs):
        self._note("set")
        return super().set(*args, **kwargs)

    def add(self, *args, **kwargs):
        self._note("add")
        return super().add(*args, **kwargs)


class Pausing(Queue):
    """Does nothing until it is drained, in the test's own thread."""


@pytest.fixture(autouse=True)
def queue(settings, monkeypatch):
    """A cache of this test, and a queue that works when the test says so."""
    backend = f"{__name__}.FailingCache"
    settings.CACHES = {"default": {**LOCMEM, "BACKEND": backend, "LOCATION": str(next(numbers))}}
    settings.SESSION_ENGINE = "django_replicas.sessions.write_behind"
    queue = Pausing(0)
    monkeypatch.setattr(write_behind, "get_queue", lambda: queue)
    monkeypatch.setattr(FailingCache, "failing", frozenset())
    monkeypatch.setattr(FailingCache, "refusing", frozenset())
    ledger._begin()
    outcomes.counts.clear()
    return queue


@pytest.fixture
def fail(monkeypatch):
    def fail(*names):
        monkeypatch.setattr(FailingCache, "failing", frozenset(names))

    return fail


EVERYTHING = ("get_many", "get", "set", "set_many", "add", "delete")


def saved(number=1, key=None):
    session = SessionStore(key)
    session["number"] = number
    session.save()
    return session


def row(key):
    found = Session.objects.using("default").filter(pk=key).first()
    return None if found is None else found.get_decoded()


def load(key):
    return SessionStore(key).load()


def test_nothing_is_written_until_the_queue_does(queue):
    """The save has returned, the session is loaded, and the leader was not asked."""
    session = saved()
    assert load(session.session_key) == {"number": 1}
    assert row(session.session_key) is None
    assert queue.drain(1) == 0
    assert row(session.session_key) == {"number": 1}


def test_the_other_engines_read_what_is_written(queue):
    """One can come from Django's engines, and go back."""
    session = saved()
    queue.drain(1)
    for store in (DBStore, CachedDBStore):
        assert store(session.session_key).load() == {"number": 1}
    theirs = DBStore()
    theirs["number"] = 2
    theirs.save()
    ours = SessionStore(theirs.session_key)
    assert ours.load() == {"number": 2}
    ours["number"] = 3
    ours.save()
    queue.drain(1)
    assert DBStore(theirs.session_key).load() == {"number": 3}


@pytest.mark.parametrize("calls", [EVERYTHING, ("get_many",), ("set", "set_many"), ("add", "get")])
def test_a_cache_that_fails_makes_saves_wait_for_the_leader(fail, calls, caplog):
    """Nothing is lost; what may be old in the cache is removed where that can be done."""
    fail(*calls)
    session = SessionStore()
    session["number"] = 1
    session.save()
    session["number"] = 2
    session.save()
    assert row(session.session_key) == {"number": 2}
    assert "Error saving to cache" in caplog.text or "Error loading" in caplog.text
    fail()
    assert load(session.session_key) == {"number": 2}


@pytest.mark.parametrize("calls", [{"add"}, {"set_many"}])
def test_a_cache_that_refuses_in_silence_does_too(monkeypatch, calls):
    """Memcached drops what is too large for it; the leader has it then."""
    monkeypatch.setattr(FailingCache, "refusing", frozenset(calls))
    session = saved(1)
    session["number"] = 2
    session.save()
    session.shelf.clear(session.session_key)
    assert row(session.session_key) == {"number": 2}


def test_a_cache_that_does_not_tell_what_it_refused(monkeypatch):
    """Some backends return nothing at all where Django's return a list: they took everything."""
    set_many = FailingCache.set_many

    def set_many_and_be_silent(*arguments):
        set_many(*arguments)

    monkeypatch.setattr(FailingCache, "set_many", set_many_and_be_silent)
    session = saved(1)
    session["number"] = 2
    session.save()
    assert row(session.session_key) is None
    assert outcomes.counts[Outcome.SYNCHRONOUS] == 0
    session.flush()
    assert load(session.session_key) == {}


def test_what_each_call_asks_of_the_cache(settings, queue, monkeypatch):
    """Django's engine in the cache asks twice to save or create, three times for a new key."""
    settings.CACHES = {"default": {**LOCMEM, "BACKEND": f"{__name__}.CountingCache"}}
    monkeypatch.setattr(CountingCache, "asked", [], raising=False)
    session = saved()
    queue.drain(1)

    def asked(work):
        CountingCache.asked.clear()
        work()
        return [*CountingCache.asked]

    assert asked(lambda: load(session.session_key)) == [("get_many", 2)]
    session["number"] = 2
    assert asked(session.save) == [("get_many", 1), ("set_many", 2), ("get", 1)]
    assert asked(SessionStore().create) == [("add", 1), ("set", 1)]
    assert asked(session.cycle_key) == [("add", 1), ("set", 1), ("set_many", 2)]


def test_what_a_request_saves_twice_is_written_once(monkeypatch):
    """A log-in makes a new key, and then the middleware saves."""
    now = [0.0]

    def wait(condition, seconds):
        now[0] += seconds

    later = Queue(0, clock=lambda: now[0], wait=wait)
    monkeypatch.setattr(write_behind, "get_queue", lambda: later)
    session = saved(1)
    assert later._take() is None
    session["number"] = 2
    session.save()
    later.drain(1)
    assert row(session.session_key) == {"number": 2}
    assert later.counts["done"] == 1


def test_a_log_out_without_a_cache_is_one_on_the_leader(fail, caplog):
    """The row goes at once; so does the old one at log-in."""
    session = saved()
    SessionStore.write(session)
    fail(*EVERYTHING)
    before = session.session_key
    session.cycle_key()
    assert row(before) is None
    session.flush()
    assert Session.objects.using("default").count() == 0
    assert "does not know that a session has ended" in caplog.text


def test_a_log_out_that_the_cache_did_not_hear_of_is_told_it_later(fail, queue):
    """A cache that answers again would still have the session."""
    session = saved()
    key = session.session_key
    queue.drain(1)
    fail(*EVERYTHING)
    session.flush()
    assert queue.drain(0.2) == 1
    fail()
    assert queue.drain(5) == 0
    assert load(key) == {}
    assert SessionStore(key).shelf.read(key) == Cells(is_dead=True)


def test_a_save_that_the_cache_did_not_hear_of_is_not_hidden_by_an_older_one(fail, queue):
    """What the cache has is in step with a receipt, and yet behind the database."""
    session = saved(1)
    queue.drain(1)
    fail(*EVERYTHING)
    session["number"] = 2
    session.save()
    assert queue.drain(0.2) == 1
    fail()
    assert queue.drain(5) == 0
    assert load(session.session_key) == {"number": 2}


def test_whoever_looks_after_an_old_state_does_not_write_it(fail, queue):
    """The database has a newer one, of which the cache did not hear."""
    session = saved(1)
    key = session.session_key
    queue.drain(1)
    fail("set_many", "delete")
    session["number"] = 2
    session.save()
    queue.cancel(f"recall {key}")
    fail()
    assert load(key) == {"number": 1}
    queue.drain(5)
    assert row(key) == {"number": 2}
    assert load(key) == {"number": 2}


def test_what_is_recalled_under_one_key(caplog):
    """The newest save's order counts, and an end more than any save; a failure is told."""
    older, newer, ended = (Recall(SessionStore, "key", version) for version in (1, 2, None))
    assert newer.after(older) == older.after(newer) == newer
    assert ended.after(newer) == newer.after(ended) == ended
    newer.failed(OSError("no cache"), given_up=True)
    assert "The cache may hold what a session no longer is: OSError('no cache')" in caplog.text


def test_recalling_leaves_what_is_newer(queue):
    """Somebody saved when the cache was back."""
    session = saved(1)
    Recall(SessionStore, session.session_key, session._version - 1)()
    assert load(session.session_key) == {"number": 1}


def test_a_cache_that_takes_nothing_is_asked_again(monkeypatch):
    """Some clients answer for a second after a failure as if their server had nothing."""
    monkeypatch.setattr(FailingCache, "refusing", frozenset({"set_many"}))
    with pytest.raises(cells.CacheFailed, match="takes nothing"):
        Recall(SessionStore, "a" * 32, 1)()


def test_loading_without_a_cache_asks_the_leader(fail, queue):
    """Also where the cache fails only when it is to be filled."""
    session = saved()
    queue.drain(1)
    for calls in (EVERYTHING, ("add",)):
        cache.clear()
        fail(*calls)
        assert load(session.session_key) == {"number": 1}
        fail()


@pytest.mark.parametrize("value", ["text", [1, 2], [1, 2, 3, "text"], (1, "2", 3, {}), b"\x80"])
def test_a_corrupt_value_is_read_anew(queue, value):
    """What is no session is removed, and the leader asked."""
    session = saved()
    queue.drain(1)
    cache.set(session.cache_key, value)
    assert load(session.session_key) == {"number": 1}
    assert unpacked(cache.get(session.cache_key)).refill


def test_a_value_that_cannot_be_unpickled_is_read_anew(queue):
    """Another release, or another package, may have put it there."""
    session = saved()
    queue.drain(1)
    inner = caches["default"]
    inner._cache[inner.make_and_validate_key(session.cache_key)] = b"no pickle"
    assert load(session.session_key) == {"number": 1}
    assert load(session.session_key) == {"number": 1}


def test_one_call_that_fails_is_told_from_a_value_that_cannot_be_read(fail):
    """Where single keys can still be asked for, the session is found by them."""
    session = saved()

    class Once(FailingCache):
        def get_many(self, keys, *args):
            if len(keys) == 3:
                raise OSError
            return super().get_many(keys, *args)

    once = Once(caches["default"]._cache and "x", {})
    once._cache = caches["default"]._cache
    once._expire_info = caches["default"]._expire_info
    assert Shelf(once).read(session.session_key).kept.data == {"number": 1}
    assert Shelf(once).read("unknown" * 3) == Cells()


def test_a_key_that_is_in_the_database_alone_is_not_overwritten(queue):
    """The second creator is told by the cache where it can, and else the first one's row stays."""
    first = saved()
    queue.drain(1)
    cache.clear()
    second = SessionStore(first.session_key)
    second._session_cache = {"number": 2}
    second.save(must_create=True)
    queue.drain(1)
    assert row(first.session_key) == {"number": 1}
    assert load(first.session_key) == {"number": 1}
    assert outcomes.counts[Outcome.GIVEN_UP] == 1


def test_so_it_is_at_once_where_saves_wait(settings, queue):
    """The creator hears of it."""
    first = saved()
    queue.drain(1)
    cache.clear()
    settings.REPLICAS = {**settings.REPLICAS, "WRITE_BEHIND": "sync"}
    with pytest.raises(CreateError):
        SessionStore(first.session_key).save(must_create=True)
    assert row(first.session_key) == {"number": 1}


def test_a_key_that_has_ended_is_not_made_again(queue):
    """Not by its number either."""
    key = saved().session_key
    SessionStore(key).delete()
    with pytest.raises(CreateError):
        SessionStore(key).save(must_create=True)
    assert load(key) == {}
    assert unpacked(cache.get(SessionStore(key).shelf.data_key(key))) is None


def test_a_save_that_meets_a_log_out_takes_itself_back(monkeypatch, queue):
    """The tombstone came between its first look and its put."""
    session = saved()
    put = Shelf.put

    def log_out_before(shelf, key, *arguments):
        SessionStore(key).flush()
        put(shelf, key, *arguments)

    monkeypatch.setattr(Shelf, "put", log_out_before)
    session["number"] = 2
    with pytest.raises(UpdateError):
        session.save()
    assert load(session.session_key) == {}
    queue.drain(1)
    assert row(session.session_key) is None


def test_what_has_ended_stays_so_where_the_cache_cannot_delete(fail, queue, monkeypatch):
    """A save is refused and a load finds nobody, though what they met cannot be removed."""
    session = saved()
    key, put = session.session_key, Shelf.put

    def log_out_before(shelf, key, *arguments):
        shelf.bury(key, 0, {})
        put(shelf, key, *arguments)
        fail("delete")

    monkeypatch.setattr(Shelf, "put", log_out_before)
    session["number"] = 2
    with pytest.raises(UpdateError):
        session.save()
    assert load(key) == {}
    fail()
    cache.delete(session.cache_key)
    fail("delete")
    with pytest.raises(CreateError):
        SessionStore(key).save(must_create=True)
    assert row(key) is None


def test_a_dead_session_in_the_cache_is_removed_when_it_is_met():
    """A process that was killed could not take its save back."""
    session = saved()
    session.shelf.bury(session.session_key, 0, {})
    assert load(session.session_key) == {}
    assert session.shelf.read(session.session_key) == Cells(is_dead=True)


def test_a_refill_that_meets_a_log_out_is_taken_back(monkeypatch, queue):
    """The row was read before it was deleted."""
    session = saved()
    queue.drain(1)
    cache.clear()
    add = Shelf.add

    def log_out_before(shelf, key, *arguments):
        SessionStore(key).flush()
        return add(shelf, key, *arguments)

    monkeypatch.setattr(Shelf, "add", log_out_before)
    after = SessionStore(session.session_key)
    assert (after.load(), after.session_key) == ({}, None)
    assert session.shelf.read(session.session_key).kept is None


def test_what_another_process_left_unwritten_is_written_by_the_next_load(queue):
    """It has no receipt; with one it is left alone."""
    session = saved()
    queue.cancel(session.session_key)
    assert load(session.session_key) == {"number": 1}
    assert len(queue) == 1
    queue.drain(1)
    assert row(session.session_key) == {"number": 1}
    assert load(session.session_key) == {"number": 1}
    assert len(queue) == 0


def test_what_this_process_saw_written_is_not_asked_for_again(queue, monkeypatch):
    """Until another process saves: its state is looked after as if it were unwritten."""
    session = saved(1)
    key = session.session_key
    queue.drain(1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(cells, "receipts", Receipts())
        saved(2, key)
        lost = queue.cancel(key)
    assert load(key) == {"number": 2}
    assert len(queue) == 1
    queue.drain(1)
    assert row(key) == {"number": 2}
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(cells, "receipts", Receipts())
        lost()
        saved(3, key)
        queue.drain(1)
    for expected in (1, 0):
        load(key)
        assert len(queue) == expected
        with CaptureQueriesContext(connections["default"]) as asked:
            queue.drain(1)
        assert len(asked) == 0


def test_receipts_are_bounded():
    """The older half is forgotten whole."""
    few = Receipts(4)
    for number in range(1, 6):
        few.note(str(number), number)
    assert [few.known(str(number)) for number in range(1, 6)] == [0, 0, 3, 4, 5]


def test_looking_after_it_comes_too_late_where_it_was_written(queue):
    """The process that saved it did it first."""
    session = saved()
    other = queue.cancel(session.session_key)
    load(session.session_key)
    other()
    session.shelf.clear(session.session_key)
    queue.drain(1)
    assert row(session.session_key) == {"number": 1}


def test_the_cache_has_the_last_word(queue):
    """Two saves at one moment: what the cache holds last is written, whatever its version."""
    session = saved(1)
    queue.drain(1)
    key = session.session_key
    saved(3, key)
    late = queue.cancel(key)
    late()
    kept = Kept({"number": 2}, late.version - 1)
    session.shelf.put(key, kept, 100, {})
    early = Write(SessionStore, key, kept.version, 0, SessionStore(key).instance_of(kept))
    early()
    assert row(key) == {"number": 2}
    late()
    assert row(key) == {"number": 2}


def test_a_snapshot_is_written_where_the_cache_forgot(queue):
    """And the older state, with which somebody has filled the cache, is removed."""
    session = saved(1)
    queue.drain(1)
    session["number"] = 2
    session.save()
    cache.clear()
    assert load(session.session_key) == {"number": 1}
    queue.drain(1)
    assert row(session.session_key) == {"number": 2}
    assert load(session.session_key) == {"number": 2}


def test_an_older_snapshot_does_not_overwrite_a_newer_row(queue):
    """The version in its signature tells."""
    session = saved(1)
    key = session.session_key
    session["number"] = 2
    session.save()
    older = queue.cancel(key)
    saved(3, key)
    queue.drain(1)
    cache.clear()
    older()
    assert row(key) == {"number": 3}


def test_two_processes_make_the_row_at_once(monkeypatch, queue):
    """The second one finds it made, and goes on with it."""
    session = saved(1)
    key = session.session_key
    lock = Row.lock
    looked = []

    def lock_too_early(self):
        looked.append(None if looked else lock(self))
        return looked[-1] if len(looked) == 1 else lock(self)

    job = queue.cancel(key)
    job()
    saved(2, key)
    monkeypatch.setattr(Row, "lock", lock_too_early)
    Write(SessionStore, key, job.version, job.born, job.snapshot)()
    looked.clear()
    looked.append(None)
    queue.drain(1)
    assert row(key) == {"number": 2}


def test_a_row_that_somebody_deleted_is_not_made_again(queue):
    """An administrator ends a session by deleting its row."""
    session = saved(1)
    queue.drain(1)
    session["number"] = 2
    session.save()
    Session.objects.using("default").all().delete()
    queue.drain(1)
    assert row(session.session_key) is None
    assert load(session.session_key) == {}
    assert outcomes.counts[Outcome.DROPPED] == 1


def test_a_write_that_meets_a_tombstone_undoes_the_row_that_it_made(monkeypatch, queue):
    """The tombstone came while it was making it."""
    session = saved(1)
    insert = Row.insert

    def bury_after(row, instance):
        done = insert(row, instance)
        session.shelf.bury(row.key, 0, {})
        return done

    monkeypatch.setattr(Row, "insert", bury_after)
    queue.drain(1)
    assert row(session.session_key) is None
    assert outcomes.counts[Outcome.DROPPED] == 1


class LeaderIsDown(DatabaseError):
    pass


@pytest.fixture
def leader_fails():
    """Have every write of a session fail while this says so."""
    state = {"fails": False}

    def refuse(sender, **kwargs):
        if state["fails"]:
            raise OperationalError("the leader takes no writes")

    pre_save.connect(refuse, sender=Session)
    yield state
    pre_save.disconnect(refuse, sender=Session)


def test_a_leader_that_refuses_writes_for_a_while(leader_fails, queue):
    """Saves go on; what waited is written in the end, once for each session."""
    told = []

    def listen(sender, outcome, session_key, error, **kwargs):
        told.append((outcome, bool(error)))

    session_write.connect(listen)
    leader_fails["fails"] = True
    session = saved(1)
    assert queue.drain(0.3) == 1
    leader_fails["fails"] = False
    assert queue.drain(5) == 0
    session_write.disconnect(listen)
    assert row(session.session_key) == {"number": 1}
    assert told[0] == (Outcome.RETRIED, True)
    assert told[-1] == (Outcome.WRITTEN, False)


def test_a_row_that_is_refused_is_tried_again(queue):
    """What a model's columns demand is no other session under the same key."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON django_session "
            "BEGIN SELECT RAISE(ABORT, 'not now'); END"
        )
    session = saved(1)
    assert queue.drain(0.3) == 1
    assert load(session.session_key) == {"number": 1}
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TRIGGER refuse")
    assert queue.drain(5) == 0
    assert row(session.session_key) == {"number": 1}


def test_a_row_that_is_found_by_a_similar_key_is_not_loaded(queue):
    """Logged out under one key, it would stay in the cache under the other."""
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE django_session")
        cursor.execute(
            "CREATE TABLE django_session (session_key text COLLATE NOCASE PRIMARY KEY,"
            " session_data text, expire_date datetime)"
        )
    session = saved(1)
    queue.drain(1)
    similar = SessionStore(session.session_key.upper())
    assert (similar.load(), similar.session_key) == ({}, None)
    assert load(session.session_key) == {"number": 1}


def test_where_threads_commit_nothing_saves_wait(queue, monkeypatch):
    """A connection that does not commit by itself leaves that to the request."""
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
    assert row(saved(1).session_key) == {"number": 1}
    assert len(queue) == 0


def test_a_refused_save_is_nobodys_to_remember(leader_fails, monkeypatch):
    """Its caller heard of it; the ledger's lines are for what was reported to be saved."""
    full = Queue(0, 0)
    monkeypatch.setattr(write_behind, "get_queue", lambda: full)
    leader_fails["fails"] = True
    for number in range(3):
        with pytest.raises(OperationalError):
            saved(number)
    assert ledger._held == {}


def test_what_is_given_up_is_tried_again_by_the_next_load(leader_fails, monkeypatch, caplog):
    """The cache still has it, without its receipt."""
    impatient = Queue(0, patience=0)
    monkeypatch.setattr(write_behind, "get_queue", lambda: impatient)
    leader_fails["fails"] = True
    session = saved(1)
    assert impatient.drain(1) == 0
    assert "could not be written, which is given up" in caplog.text
    leader_fails["fails"] = False
    load(session.session_key)
    impatient.drain(1)
    assert row(session.session_key) == {"number": 1}


def test_what_is_given_up_keeps_its_line_until_it_is_written(leader_fails, monkeypatch):
    """The command finds it by that; then the line is for another session."""
    impatient = Queue(0, patience=0)
    monkeypatch.setattr(write_behind, "get_queue", lambda: impatient)
    leader_fails["fails"] = True
    session = saved(1)
    assert impatient.drain(1) == 0
    for _ in range(2):
        with pytest.raises(OperationalError):
            session.write()
        assert ledger._held.keys() == {session.session_key}
    leader_fails["fails"] = False
    assert session.write() == "written"
    assert ledger._held == {}


def test_what_is_given_up_is_released_by_a_later_save(leader_fails, monkeypatch):
    """It wrote what the earlier one could not."""
    impatient = Queue(0, patience=0)
    monkeypatch.setattr(write_behind, "get_queue", lambda: impatient)
    leader_fails["fails"] = True
    session = saved(1)
    assert impatient.drain(1) == 0
    leader_fails["fails"] = False
    session.save()
    assert impatient.drain(1) == 0
    assert ledger._held == {}


def test_a_log_out_that_is_given_up_keeps_its_line_until_the_row_is_gone(monkeypatch):
    """As a save does."""
    impatient = Queue(0, patience=0)
    monkeypatch.setattr(write_behind, "get_queue", lambda: impatient)
    session = saved(1)
    impatient.drain(1)
    key, before = session.session_key, Row.delete

    def fail(row):
        raise OperationalError("down")

    monkeypatch.setattr(Row, "delete", fail)
    session.cycle_key()
    session.save()
    impatient.drain(1)
    assert ledger._held.keys() == {key}
    monkeypatch.setattr(Row, "delete", before)
    assert SessionStore(key).write() == "ended"
    assert row(key) is None
    assert ledger._held == {}


def test_a_full_queue_makes_saves_wait(monkeypatch):
    """Back-pressure: the leader is written at once, or its error is the caller's."""
    full = Queue(0, 1)
    monkeypatch.setattr(write_behind, "get_queue", lambda: full)
    saved(1)
    second = saved(2)
    assert row(second.session_key) == {"number": 2}
    before = second.session_key
    second.cycle_key()
    assert row(before) is None
    assert outcomes.counts[Outcome.SYNCHRONOUS] >= 2


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_log_out_while_the_leader_is_down(monkeypatch, queue, kind):
    """The error is raised, the user is out all the same, and the row goes later."""
    session = saved(1)
    queue.drain(1)
    key = session.session_key
    delete = Row.delete

    def fail(row):
        raise kind("down")

    monkeypatch.setattr(Row, "delete", fail)
    with pytest.raises(kind, match="down"):
        session.flush()
    assert load(key) == {}
    assert queue.drain(0.3) == 1
    monkeypatch.setattr(Row, "delete", delete)
    assert queue.drain(5) == 0
    assert row(key) is None


def test_an_erasure_outlasts_a_save():
    """Whichever came first, the session has ended."""
    write = Write(SessionStore, "a" * 32, 1, holds=1)
    erase = Erase(SessionStore, "a" * 32, holds=2)
    assert write.after(erase) == erase.after(write) == Erase(SessionStore, "a" * 32, holds=3)


def test_looking_after_a_session_keeps_the_snapshot_that_waits():
    """It brings none of its own; and of two snapshots the newer one stays."""
    snapshot, other = Session(pk="a"), Session(pk="b")
    first = Write(SessionStore, "a" * 32, 5, snapshot=snapshot)
    look = Write(SessionStore, "a" * 32, 6)
    assert look.after(first).snapshot is snapshot
    older = Write(SessionStore, "a" * 32, 4, snapshot=other)
    assert older.after(first).snapshot is snapshot
    assert first.after(older).snapshot is snapshot


def test_a_deletion_finds_what_is_being_inserted():
    """An insertion waits for another one under the same key, which a deletion does not see."""
    session = saved()
    row_ = Row(Session, "default", session.session_key)
    instance = session.instance_of(Kept({"number": 1}, 5))
    assert not row_.delete()
    assert row_.insert(instance) is None
    row_.delete_what_is_being_inserted(instance)
    assert row(session.session_key) is None


def test_a_miss_may_be_answered_by_a_follower(settings, queue):
    """As old as that follower; the leader only where it has no row."""
    session = saved(1)
    queue.drain(1)
    older = Session.objects.using("default").get()
    older.session_data = session.encode({"number": 0})
    for alias in ("replica1", "replica2"):
        older.save(using=alias, force_insert=True)
    only_here = saved(2)
    queue.drain(1)
    settings.REPLICAS = {**settings.REPLICAS, "SESSION_MISS": "follower"}
    cache.clear()
    with unit_of_work():
        assert load(session.session_key) == {"number": 0}
        assert load(only_here.session_key) == {"number": 2}
    cache.clear()
    with transaction.atomic():
        assert load(session.session_key) == {"number": 1}


def test_what_a_follower_said_is_not_kept_for_long(settings, queue):
    """It has replayed more by then."""
    session = saved(1)
    queue.drain(1)
    copy = Session.objects.using("default").get()
    for number in (0, 1):
        copy.session_data = session.encode({"number": number})
        for alias in ("replica1", "replica2"):
            copy.save(using=alias)
        if not number:
            settings.REPLICAS = {
                **settings.REPLICAS,
                "SESSION_MISS": "follower",
                "PIN_SECONDS": 0.001,
            }
            cache.clear()
        with unit_of_work():
            assert load(session.session_key) == {"number": number}


def test_a_miss_passes_over_a_follower_that_fails(settings, queue, monkeypatch):
    """The leader answers; the leader's own error is raised."""
    session = saved(1)
    queue.drain(1)
    settings.REPLICAS = {**settings.REPLICAS, "SESSION_MISS": "follower"}
    cache.clear()
    with connections["replica1"].cursor() as cursor:
        cursor.execute("DROP TABLE django_session")
    monkeypatch.setattr(write_behind, "get_follower", lambda leader: "replica1")
    assert load(session.session_key) == {"number": 1}
    cache.clear()
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE django_session")
    with pytest.raises(DatabaseError):
        load(session.session_key)


def test_a_miss_passes_over_a_follower_whose_connection_is_dead(settings, queue, monkeypatch):
    """Some drivers say so with an error that is none of the database's."""

    def die(execute, *arguments):
        raise InterfaceError("connection already closed")

    session = saved(1)
    queue.drain(1)
    settings.REPLICAS = {**settings.REPLICAS, "SESSION_MISS": "follower"}
    monkeypatch.setattr(write_behind, "get_follower", lambda leader: "replica1")
    cache.clear()
    with connections["replica1"].execute_wrapper(die):
        assert load(session.session_key) == {"number": 1}
    cache.clear()
    with connections["default"].execute_wrapper(die), pytest.raises(InterfaceError):
        load(session.session_key)


def test_a_suspicious_session_is_none(monkeypatch, caplog):
    """As in Django's engine it is logged as such."""

    def suspect(*args, **kwargs):
        raise SuspiciousOperation("odd")

    monkeypatch.setattr(models.QuerySet, "get", suspect)
    assert load("a" * 32) == {}
    assert "odd" in caplog.text


@pytest.mark.parametrize("key", ["a b c d e f", "naïveté naïveté", "x" * 41, "nul\0nul\0nul", 12])
def test_keys_of_the_wrong_shape(key):
    """Nothing asks a cache or a database for them, which would raise; nor can rows have them."""
    session = SessionStore(key)
    assert session.session_key is None
    assert session.load() == {}
    assert not session.exists(key)
    session.delete(key)
    session.save()
    assert session.session_key != key


def test_a_refused_tombstone_is_a_cache_that_fails(monkeypatch, queue, caplog):
    """The leader alone knows then that the session has ended."""
    session = saved()
    queue.drain(1)
    monkeypatch.setattr(FailingCache, "refusing", frozenset({"set_many"}))
    session.flush()
    assert Session.objects.using("default").count() == 0
    assert "The cache refused a tombstone" in caplog.text


def test_log_in_without_a_cache_takes_back_what_waits(fail, queue):
    """There is no tombstone to stop the write of the old key."""
    session = saved()
    before = session.session_key
    fail(*EVERYTHING)
    session.cycle_key()
    fail()
    queue.drain(1)
    assert row(before) is None
    assert row(session.session_key) == {"number": 1}


def test_a_new_key_without_an_old_one(queue):
    """Somebody logs in who had no session."""
    session = SessionStore()
    session["number"] = 1
    session.cycle_key()
    assert load(session.session_key) == {"number": 1}
    queue.drain(1)


async def test_async_key_and_row():
    """What Django's async methods ask for themselves."""
    session = SessionStore()
    assert not await session.aexists("a" * 32)
    assert len(await session._aget_new_session_key()) == 32
    session._session_key = "a" * 32
    assert await session._aget_session_from_db() is None


def test_the_version_of_data_that_others_encoded():
    """Seconds are made comparable; what is no signature has no version."""
    theirs = DBStore().encode({"a": 1})
    ours = SessionStore().encode({"a": 1})
    assert 0 < version_of(theirs) < version_of(ours)
    assert version_of("encrypted") == UNKNOWN
    assert version_of("not:*:signed") == UNKNOWN


class Encrypted(SessionStore):
    """A store whose data tells no version."""

    def encode(self, session_dict):
        return super().encode(session_dict).replace(":", "!")

    def decode(self, session_data):
        return super().decode(session_data.replace("!", ":"))


def test_a_subclass_with_an_encoding_of_its_own(queue):
    """What the cache holds decides alone, and its receipt is believed."""
    session = Encrypted()
    for number in range(3):
        session["number"] = number
        session.save()
        queue.drain(1)
    cache.clear()
    loaded = Encrypted(session.session_key)
    assert loaded["number"] == 2
    loaded["number"] = 3
    loaded.save()
    queue.drain(1)
    assert Encrypted(session.session_key).load() == {"number": 3}
    assert len(queue) == 0


def test_the_expiry_is_that_of_the_save(queue):
    """A write that waited for an hour lengthens nobody's session."""
    session = saved()
    kept = Kept({"number": 1}, 10**18)
    instance = session.instance_of(kept)
    assert instance.expire_date.year == 2001


# The command


def test_write_sessions_finds_what_a_killed_process_left(queue, capsys):
    """What was saved is written, what has ended is deleted, what is written is left alone."""
    lost, ended, done = saved(1), saved(2), saved(3)
    for session in (lost, done, ended):
        job = queue.cancel(session.session_key)
        if session is not lost:
            job()
    done["number"] = 4
    done.save()
    queue.drain(1)
    ended["number"] = 5
    ended.save()
    queue.cancel(ended.session_key)
    ended.shelf.bury(ended.session_key, 0, {})
    call_command("write_sessions")
    assert row(lost.session_key) == {"number": 1}
    assert row(ended.session_key) is None
    assert row(done.session_key) == {"number": 4}
    assert capsys.readouterr().out == "1 ended, 1 in step, 1 written\n"


def test_write_sessions_says_when_there_is_nothing(capsys):
    call_command("write_sessions")
    assert capsys.readouterr().out == "None.\n"


def test_write_sessions_says_what_failed(queue, leader_fails, capsys):
    """The others are tried as well, and the command fails."""
    for number in range(2):
        queue.cancel(saved(number).session_key)
    leader_fails["fails"] = True
    with pytest.raises(CommandError, match="2 sessions are still unwritten"):
        call_command("write_sessions")
    assert "the leader takes no writes" in capsys.readouterr().err


def test_write_sessions_is_for_this_engine(settings):
    """Others have nothing unwritten."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    with pytest.raises(CommandError, match="writes its sessions itself"):
        call_command("write_sessions")


def test_a_session_is_created_from_an_event_loop():
    """As with Django's engines."""
    session = SessionStore()
    async_to_sync(session.acreate)()
    assert session.exists(session.session_key)
