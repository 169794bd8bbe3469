"""The queue alone: what it does when, told by a clock that stands still until somebody waits."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from contextvars import ContextVar
from itertools import pairwise

import pytest
from django.db import connections, transaction

from django_replicas.sessions import process
from django_replicas.sessions import queue as queue_module
from django_replicas.sessions.queue import Queue, close_connections
from servers.waiting import wait_until


class Clock:
    """A time that passes only while somebody waits."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def wait(self, condition, seconds):
        self.now += seconds


class Noted:
    """A job that notes what became of it, and fails as often as it is told to."""

    def __init__(self, name="job", failures=0, notes=None, clock=None):
        self.name, self.failures, self.clock = name, failures, clock
        self.notes = [] if notes is None else notes
        self.errors = []

    def __call__(self):
        self.notes.append((self.name, self.clock() if self.clock else None))
        if self.failures:
            self.failures -= 1
            raise ValueError(self.name)

    def after(self, earlier):
        return self

    def failed(self, error, *, given_up):
        self.errors.append((str(error), given_up))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def alone(clock):
    """A queue without threads, which only ``drain`` works for."""
    return Queue(0, 3, clock=clock, wait=clock.wait, chance=lambda: 0.0, at_rest=lambda: None)


@pytest.fixture
def make_queue():
    """Make queues with threads, which end with the test."""
    queues = []

    def make(*arguments, **options):
        queues.append(Queue(*arguments, idle=0.01, **options))
        return queues[-1]

    yield make
    for queue in queues:
        assert queue.drain(10) == 0
        wait_until(lambda queue=queue: queue.threads == 0, "idle threads end")


def names(notes):
    return [name for name, _ in notes]


def test_jobs_are_done_in_their_order(alone):
    """What was submitted first is done first."""
    notes = []
    for name in "abc":
        assert alone.submit(name, Noted(name, notes=notes))
    assert alone.drain(1) == 0
    assert names(notes) == ["a", "b", "c"]


def test_the_newest_job_of_a_key_stands_for_the_earlier_ones(alone):
    """Twenty submissions under one key are one job."""
    notes = []
    for number in range(20):
        alone.submit("key", Noted(number, notes=notes))
    alone.drain(1)
    assert names(notes) == [19]
    assert alone.counts["coalesced"] == 19


def test_more_than_the_limit_is_refused_and_nothing_is_dropped(alone):
    """Back-pressure: the caller hears that it has to do it, and what was taken is done."""
    notes = []
    taken = [alone.submit(str(number), Noted(number, notes=notes)) for number in range(5)]
    assert taken == [True, True, True, False, False]
    assert alone.submit("0", Noted("again", notes=notes))
    alone.drain(1)
    assert names(notes) == ["again", 1, 2]
    assert alone.counts["refused"] == 2


def test_what_is_submitted_again_and_again_takes_no_more_room(alone):
    """Also while every thread hangs, and nobody takes anything."""
    notes = []
    for number in range(100):
        alone.submit("key", Noted(number, notes=notes))
        assert len(alone._due) <= 6
    alone.submit("other", Noted("other", notes=notes))
    alone.drain(1)
    assert names(notes) == [99, "other"]


def test_a_fork_that_python_did_not_see_begins_anew(alone):
    """Some servers fork by themselves; the jobs of the parent are the parent's."""
    alone.submit("parents", Noted())
    alone._process = -1
    own = Noted()
    alone.submit("own", own)
    assert len(alone) == 1
    assert alone.drain(1) == 0
    assert own.notes


def test_a_failed_job_is_tried_again_after_growing_pauses(alone, clock):
    """The pause doubles; what failed hears each time that it is not given up."""
    job = Noted(failures=4, clock=clock)
    alone.submit("key", job)
    assert alone.drain(60) == 0
    times = [time for _, time in job.notes]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert job.errors == [("job", False)] * 4
    assert alone.counts["retried"] == 4


def test_chance_shortens_a_pause_by_up_to_a_half(clock):
    """Processes that failed together do not come back together."""
    queue = Queue(0, clock=clock, wait=clock.wait, chance=lambda: 1.0, at_rest=lambda: None)
    job = Noted(failures=1, clock=clock)
    queue.submit("key", job)
    queue.drain(60)
    assert job.notes[1][1] - job.notes[0][1] == pytest.approx(0.05)


def test_a_pause_has_a_longest(alone, clock):
    """However often a job failed, it is tried every half minute."""
    job = Noted(failures=20, clock=clock)
    alone.submit("key", job)
    alone.drain(10_000)
    assert job.notes[-1][1] - job.notes[-2][1] == pytest.approx(30)


def test_a_job_that_fails_for_too_long_is_given_up(alone, clock):
    """It hears so, its key is free, and the next job under it begins anew."""
    job = Noted(failures=10_000, clock=clock)
    alone.submit("key", job)
    assert alone.drain(4000) == 0
    assert job.errors[-1] == ("job", True)
    assert alone.counts["given up"] == 1
    after = Noted(failures=1, clock=clock)
    alone.submit("key", after)
    alone.drain(60)
    assert after.errors == [("job", False)]


def test_drain_says_what_is_left_at_its_deadline(alone, clock):
    """It ends in time, also where jobs fail for ever."""
    alone.submit("key", Noted(failures=10_000))
    assert alone.drain(5) == 1
    assert clock.now == pytest.approx(105)


def test_a_new_job_keeps_to_the_pause_of_one_that_failed(alone, clock):
    """A database that is down is not asked more often because there is more to write."""

    class SubmitsAgain(Noted):
        def failed(self, error, *, given_up):
            alone.submit("key", second)

    second = Noted("second", clock=clock)
    alone.submit("key", SubmitsAgain(failures=1))
    alone.drain(60)
    assert second.notes == [("second", pytest.approx(100.1))]


def test_a_later_job_is_done_sooner_if_another_one_comes(alone, clock):
    """A job for later has its time, unless its key has something to do before."""
    late = Noted("late", clock=clock)
    alone.submit("late", late, after=3)
    alone.submit("early", Noted("was late"), after=3)
    sooner = Noted("sooner", clock=clock)
    alone.submit("early", sooner)
    taken = []
    while (each := alone._take()) is not None:
        taken.append(each[2].name)
    assert taken == ["sooner"]


def test_draining_does_at_once_what_was_for_later(alone, clock):
    """A process that ends has no later."""
    late = Noted("late", clock=clock)
    alone.submit("key", late, after=30)
    assert alone.drain(1) == 0
    assert late.notes == [("late", 100.0)]


def test_a_cancelled_job_is_not_done(alone):
    """It is handed back; where none waits there is nothing to hand back."""
    job = Noted()
    alone.submit("key", job)
    assert alone.cancel("key") is job
    assert alone.cancel("key") is None
    assert len(alone) == 0
    alone.drain(1)
    assert job.notes == []


def test_a_key_is_worked_on_by_one_thread_at_a_time(make_queue):
    """What is submitted while a job runs is done after it, however many threads are free."""
    queue = make_queue(4, at_rest=lambda: None)
    at_work, most, done = [], [], []
    go_on = threading.Event()

    class Slow(Noted):
        def __call__(self):
            at_work.append(self)
            most.append(len(at_work))
            go_on.wait(10)
            at_work.remove(self)
            done.append(self.name)

    queue.submit("key", Slow("first"))
    wait_until(lambda: at_work, "the first runs")
    for name in ("second", "third"):
        queue.submit("key", Slow(name))
    go_on.set()
    assert queue.drain(10) == 0
    assert (done, max(most)) == (["first", "third"], 1)


def test_draining_sleeps_while_all_threads_are_busy(make_queue):
    """Also when something is due: it is a thread that will do it, and that tells when it has."""
    waited, notes = [], []
    go_on, begun = threading.Event(), threading.Event()
    here = threading.current_thread()

    class Slow(Noted):
        def __call__(self):
            begun.set()
            go_on.wait(10)

    def wait(condition, seconds):
        if threading.current_thread() is here:
            waited.append(seconds)
            go_on.set()
        condition.wait(seconds)

    queue = make_queue(1, clock=lambda: 100.0, wait=wait, at_rest=lambda: None)
    queue.submit("slow", Slow())
    assert begun.wait(10)
    queue.submit("due", Noted("due", notes=notes))
    assert queue.drain(10) == 0
    assert names(notes) == ["due"]
    assert set(waited) == {10.0}


def test_there_are_never_more_threads_than_workers(make_queue):
    """A thousand jobs, three threads, and none when there is nothing to do."""
    queue = make_queue(3, 1000, at_rest=lambda: None)
    seen = []

    class Counting(Noted):
        def __call__(self):
            seen.append(threading.current_thread())

    for number in range(1000):
        assert queue.submit(str(number), Counting())
        assert queue.threads <= 3
    assert queue.drain(10) == 0
    assert len(seen) == 1000
    assert all(thread.daemon for thread in seen)


inherited = ContextVar("inherited", default="nothing")


@pytest.mark.parametrize("apart", [0, 1])
def test_threads_call_each_other_for_what_is_due_later(make_queue, apart):
    """Nothing was, when it was submitted, and the first to run may hang when the next is due."""
    queue = make_queue(3, at_rest=lambda: None)
    together, met = threading.Barrier(3), []

    class Meeting(Noted):
        def __call__(self):
            met.append(together.wait(5))

    for number, name in enumerate("abc"):
        queue.submit(name, Meeting(), after=0.02 * (1 + number * apart))
    wait_until(lambda: len(met) == 3, "three threads meet")


@pytest.mark.parametrize("place", ["at rest", "failed"])
def test_no_job_waits_behind_a_thread_that_hangs_beside_its_work(make_queue, place):
    """It may hang where a connection is closed, or in who hears of a failure; another one works."""
    hangs, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def hang():
        if not hangs.is_set():
            hangs.set()
            go_on.wait(10)

    class Hanging(Noted):
        def failed(self, error, *, given_up):
            if place == "failed":
                hang()

    class Telling(Noted):
        def __call__(self):
            done.set()

    at_rest = hang if place == "at rest" else lambda: None
    queue = make_queue(2, at_rest=at_rest, patience=0)
    queue.submit("hangs", Hanging(failures=int(place == "failed")))
    assert hangs.wait(10)
    queue.submit("other", Telling())
    is_done = done.wait(5)
    go_on.set()
    assert is_done


def test_workers_start_in_an_empty_context(make_queue):
    """What a request left in its context is not there."""
    inherited.set("something")
    seen = []

    class Looking(Noted):
        def __call__(self):
            seen.append(inherited.get())

    queue = make_queue(1, at_rest=lambda: None)
    queue.submit("key", Looking())
    queue.drain(10)
    assert seen == ["nothing"]


def test_connections_are_closed_when_nothing_is_due(make_queue):
    """A thread that waits keeps no connection."""
    states = []

    class Asking(Noted):
        def __call__(self):
            connections["default"].ensure_connection()
            self.connection = connections["default"]

        def failed(self, error, *, given_up):
            states.append(error)

    queue, job = make_queue(1), Asking()
    queue.submit("key", job)
    queue.drain(10)
    assert states == []
    wait_until(lambda: job.connection.connection is None, "the connection is closed")


def test_a_connection_serves_what_is_due_together(make_queue):
    """To a distant database, connecting costs more than the work; a failure ends a connection."""
    closed, notes = [], []
    go_on = threading.Event()

    class First(Noted):
        def __call__(self):
            go_on.wait(10)

    queue = make_queue(1, at_rest=lambda: closed.append(len(notes)), shortest=1)
    queue.submit("first", First())
    for name, failures in {"a": 0, "b": 1, "c": 0}.items():
        queue.submit(name, Noted(name, failures, notes))
    go_on.set()
    wait_until(lambda: len(closed) == 2, "closed after the failure, and at rest")
    assert queue.drain(10) == 0
    wait_until(lambda: len(closed) == 3, "closed at rest again")
    assert closed == [2, 3, 4]


def test_the_connection_of_a_transaction_stays():
    """Nobody's work is thrown away because a thread comes to rest."""
    with transaction.atomic():
        close_connections()
        assert connections["default"].connection is not None
    close_connections()
    assert connections["default"].connection is None


def test_closing_that_fails_does_not_end_the_thread(make_queue, caplog):
    """It is logged, and the next job is done."""

    def fail():
        raise OSError("no")

    queue, notes = make_queue(1, at_rest=fail), []
    for name in "ab":
        queue.submit(name, Noted(name, notes=notes))
    queue.drain(10)
    assert names(notes) == ["a", "b"]
    wait_until(lambda: "could not be closed" in caplog.text, "it is logged")


class Ends(Noted):
    """A job that ends its thread, the first time."""

    def __call__(self):
        super().__call__()
        if len(self.notes) == 1:
            raise SystemExit(self.name)


def test_a_job_that_ends_its_thread_is_tried_again_by_another(make_queue, monkeypatch):
    """It failed, like others; the thread is no longer counted, and is replaced."""
    ended = []
    monkeypatch.setattr(threading, "excepthook", ended.append)
    queue, job, notes = make_queue(1, at_rest=lambda: None), Ends("ends"), []
    queue.submit("ends", job)
    wait_until(lambda: ended, "the thread ends")
    assert ended[0].exc_type is SystemExit
    assert queue.submit("other", Noted("other", notes=notes))
    assert queue.drain(10) == 0
    assert (names(job.notes), names(notes)) == (["ends", "ends"], ["other"])
    assert job.errors == [("ends", False)]
    assert queue.counts["retried"] == 1


def test_a_thread_that_ends_leaves_none_where_nothing_is_to_be_done(make_queue, monkeypatch):
    """A job that is given up needs no thread to replace the one that it ended."""
    ended = []
    monkeypatch.setattr(threading, "excepthook", ended.append)
    queue, job = make_queue(1, patience=0, at_rest=lambda: None), Ends("ends")
    queue.submit("ends", job)
    wait_until(lambda: ended, "the thread ends")
    assert (len(queue), queue.threads) == (0, 0)
    assert job.errors == [("ends", True)]


def test_what_ends_the_thread_of_drain_is_raised_there(alone):
    """Whoever drains is asked to stop; what it was doing is not lost."""
    job = Ends("ends")
    alone.submit("key", job)
    with pytest.raises(SystemExit):
        alone.drain(10)
    assert len(alone) == 1
    assert alone.drain(10) == 0
    assert names(job.notes) == ["ends", "ends"]


def test_a_job_that_fails_to_hear_of_its_failure_does_not_end_the_thread(make_queue, caplog):
    """It is logged, and tried again."""

    class Deaf(Noted):
        def failed(self, error, *, given_up):
            raise OSError("deaf")

    queue, job = make_queue(1, at_rest=lambda: None), Deaf(failures=1)
    queue.submit("key", job)
    wait_until(lambda: len(job.notes) == 2, "it is tried again")
    assert "could not be told" in caplog.text


def test_without_threads_the_caller_hears_so(make_queue, monkeypatch):
    """Where the system starts no thread, nothing is taken."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    queue = make_queue(2)
    assert not queue.submit("key", Noted())
    assert queue.threads == 0


def test_a_forked_child_has_an_empty_queue_and_threads_of_its_own(clock):
    """The parent's jobs are the parent's; the child can begin at once."""
    script = """
import os, sys
import django
django.setup()
from django_replicas.sessions import process
from django_replicas.sessions import queue as queue_module
from django_replicas.sessions.queue import Queue, close_connections
from tests.test_sessions_queue import Noted
queue = Queue(0)
queue.submit("parents", Noted())
held = queue._changed.acquire()
child = os.fork()
if child == 0:
    queue._workers = 2
    job = Noted()
    ok = len(queue) == 0 and queue.submit("own", job) and queue.drain(10) == 0 and job.notes
    os._exit(0 if ok else 1)
queue._changed.release()
_, status = os.waitpid(child, 0)
assert status == 0 and len(queue) == 1
queue.drain(1)
"""
    assert run(script) == (0, "", "")


@pytest.mark.parametrize("ending", ["", "sys.exit(0)"])
def test_the_end_of_the_interpreter_drains(ending):
    """What waits is done by the threads that there are, or where none may start, by the last."""
    script = f"""
import atexit, os, sys, threading
import django
django.setup()
from django_replicas.sessions.queue import Queue

at_the_end = threading.Event()

class Job:
    def __call__(self):
        at_the_end.wait()
        os.write(1, b"done\\n")

queue = Queue(1)
for key in "abc":
    queue.submit(key, Job())
alone = Queue(0)
alone.submit("key", Job())
atexit.register(at_the_end.set)
{ending}
"""
    assert run(script) == (0, "done\n" * 4, "")


def test_the_end_of_the_interpreter_says_what_was_not_done():
    """With a deadline; what fails for ever does not keep a process."""
    script = """
import django
django.setup()
from django_replicas.sessions import queue
queue.SECONDS_AT_EXIT = 0.2
from tests.test_sessions_queue import Noted
each = queue.Queue(1, at_rest=lambda: None)
each.submit("key", Noted(failures=1000))
gone = queue.Queue(0)
gone.submit("key", Noted())
del gone
"""
    code, out, err = run(script)
    assert (code, out) == (0, "")
    assert "The process ends with 1 jobs undone." in err


def run(script):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    environment.pop("DJANGO_REPLICAS_TEST_FOLDER", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_the_queue_of_the_settings():
    """One for all with the same bounds; ``drain`` asks it."""
    assert process.get_queue() is process._queue(4, 1000)
    assert process.drain(0) == 0


def test_servers_can_be_told_to_drain_before_there_are_applications():
    """Their settings are read first, and so is what wraps Django's own application."""
    script = """
from django.apps import apps
from django_replicas.sessions.process import drain
assert not apps.ready
import django
django.setup()
assert drain(1) == 0
"""
    assert run(script) == (0, "", "")


def test_the_hooks_of_a_process_reach_a_queue_that_there_is(clock, caplog, monkeypatch):
    """They hold it loosely: one that nobody has is neither drained nor begun anew."""
    monkeypatch.setattr(queue_module, "SECONDS_AT_EXIT", 0.0)
    queue = Queue(0, clock=clock, wait=clock.wait)
    drain, begin_anew = weakref.ref(queue), weakref.WeakMethod(queue._forget)
    queue.submit("key", Noted())
    queue_module._drain(drain)
    assert "ends with 1 jobs undone" in caplog.text
    queue_module._call(begin_anew)
    assert len(queue) == 0
    del queue
    gc.collect()
    queue_module._drain(drain)
    queue_module._call(begin_anew)


def test_a_queue_that_nobody_has_is_forgotten_by_forks():
    """The hook for forks keeps no queue alive."""
    queue = Queue(0)
    queue.submit("key", Noted())
    del queue
    gc.collect()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
