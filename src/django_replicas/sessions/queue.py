"""A bounded pool of threads that does keyed jobs behind the back of whoever submits them.

It knows nothing of what the jobs do. Two calls are all that others need of it, ``submit`` and
``cancel``, so that another queue can take its place; ``drain`` is for the end of a process.
"""

import atexit
import heapq
import logging
import os
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from django.core.cache import caches
from django.db import connections

logger = logging.getLogger("django_replicas")

Wait = Callable[[threading.Condition, float], object]


class Job(Protocol):
    """What is to be done under a key; it may be done more than once."""

    def __call__(self) -> object:
        """Do it; whatever is raised has it tried again."""

    def after(self, earlier: Any) -> Any:
        """Return the job that stands for this one and for an earlier one under the same key."""

    def failed(self, error: BaseException, *, given_up: bool) -> None:
        """Hear that it failed, and whether it will not be tried again."""


J = TypeVar("J", bound=Job)


@dataclass(eq=False)
class _Entry(Generic[J]):
    """What is held under one key: at most one job that waits, and one that runs."""

    waiting: J | None = None
    running: bool = False
    failures: int = 0
    failing_since: float | None = None
    ticket: int = -1
    due: float = 0.0


def close_connections() -> None:
    """Close this thread's connections to caches and databases, except inside a transaction."""
    caches.close_all()
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


class Queue(Generic[J]):
    """Does the newest job of each key, one at a time, in at most so many threads.

    No more than *limit* keys are held; what comes above is refused, never dropped. A job that
    raises is tried again after a pause, which doubles from *shortest* to *longest* seconds and is
    cut by up to a half at random, and is given up when it has failed for *patience* seconds.
    Threads start when there is work, also after a fork, in an empty context, and end when there was
    none for *idle* seconds. One that has nothing to do at the moment is *at_rest*: it closes its
    connections then, and after each failure. Without *workers*, only ``drain`` works. *clock*,
    *wait* and *chance* stand for time and chance in tests. Safe to share between threads.
    """

    def __init__(
        self,
        workers: int = 4,
        limit: int = 1000,
        *,
        shortest: float = 0.1,
        longest: float = 30.0,
        patience: float = 3600.0,
        idle: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Wait = threading.Condition.wait,
        chance: Callable[[], float] = random.random,
        at_rest: Callable[[], None] = close_connections,
    ) -> None:
        self._workers, self._limit = workers, limit
        self._shortest, self._longest = shortest, longest
        self._patience, self._idle = patience, idle
        self._clock, self._wait, self._chance = clock, wait, chance
        self._at_rest = at_rest
        self._forget()
        forget = weakref.WeakMethod(self._forget)
        if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
            os.register_at_fork(after_in_child=lambda: _call(forget))

    def _forget(self) -> None:
        """Begin anew: in a forked child there are no threads, and the jobs are the parent's."""
        self.counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry[J]] = {}
        self._due: list[tuple[float, int, str]] = []
        self._tickets = count()
        self._threads: set[threading.Thread] = set()
        self._free: set[threading.Thread] = set()
        self._process: int | None = None

    def __len__(self) -> int:
        """Return how many keys have a job that waits or runs."""
        return len(self._entries)

    @property
    def threads(self) -> int:
        """How many threads there are at this moment."""
        return len(self._threads)

    def submit(self, key: str, job: J, after: float = 0.0) -> bool:
        """Have *job* done, so many seconds from now or sooner; tell whether it will be.

        Where it will not, the caller has to do it.
        """
        self._settle_in()
        with self._changed:
            entry = self._entries.get(key)
            if entry is None and (len(self._entries) >= self._limit or not self._has_worker()):
                self.counts["refused"] += 1
                return False
            if entry is None:
                entry = self._entries[key] = _Entry()
            due = self._clock() + after
            if entry.waiting is None:
                entry.waiting = job
            else:
                self.counts["coalesced"] += 1
                entry.waiting, due = job.after(entry.waiting), min(due, entry.due)
            if not (entry.running or entry.failures):
                self._make_due(key, entry, due)
            self.counts["submitted"] += 1
            return True

    def cancel(self, key: str) -> J | None:
        """Take back the job that waits under *key*, if one does; one that runs goes on."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is None or entry.waiting is None:
                return None
            job, entry.waiting = entry.waiting, None
            self.counts["cancelled"] += 1
            self._drop_if_empty(key, entry)
            return job

    def drain(self, seconds: float) -> int:
        """Return when all is done, or so many seconds have passed; say how many keys are left.

        Failed jobs are tried at once, and again. Where no thread can be started any more, as at the
        end of the interpreter, the caller's does the work.
        """
        self._settle_in()
        end = self._clock() + seconds
        worked_here = False
        with self._changed:
            self._hurry()
        while True:
            with self._changed:
                if not self._entries or self._clock() >= end:
                    break
                has_worker = self._has_worker(for_drain=True)
                taken = None if has_worker else self._take()
                if taken is None:
                    left = max(0.0, end - self._clock())
                    # What is due is the worker's, who tells when all is done.
                    self._wait(self._changed, left if has_worker else self._seconds_to_wait(left))
            if taken is not None:
                worked_here = True
                self._do(*taken)
        if worked_here:
            self._close()
        return len(self._entries)

    # With the lock held

    def _make_due(self, key: str, entry: _Entry[J], due: float) -> None:
        entry.ticket, entry.due = next(self._tickets), due
        heapq.heappush(self._due, (due, entry.ticket, key))
        if len(self._due) > 2 * self._limit:
            self._drop_stale()
        self._changed.notify_all()

    def _drop_stale(self) -> None:
        """Forget the tickets that were replaced, which nobody takes while every thread hangs."""
        self._due = [each for each in self._due if self._waiting_with(*each[1:])]
        heapq.heapify(self._due)

    def _waiting_with(self, ticket: int, key: str) -> _Entry[J] | None:
        """Return the entry that waits with this ticket, if it is not done nor replaced."""
        entry = self._entries.get(key)
        is_stale = entry is None or entry.ticket != ticket or entry.waiting is None
        return None if is_stale else entry

    def _hurry(self) -> None:
        now = self._clock()
        for key, entry in self._entries.items():
            entry.failures = 0
            if entry.waiting is not None and not entry.running:
                self._make_due(key, entry, now)

    def _take(self) -> tuple[str, _Entry[J], J] | None:
        """Take the job that is due first, if one is due."""
        while self._due:
            due, ticket, key = self._due[0]
            entry = self._waiting_with(ticket, key)
            if entry is not None and due > self._clock():
                return None
            heapq.heappop(self._due)
            if entry is not None and entry.waiting is not None:
                job, entry.waiting = entry.waiting, None
                entry.running = True
                self._free.discard(threading.current_thread())
                self._call_for_help()
                return key, entry, job
        return None

    def _call_for_help(self) -> None:
        """Have another thread there for what is due next, because this job may take long."""
        if self._due:
            self._has_worker()

    def _seconds_to_wait(self, at_most: float) -> float:
        until_due = self._due[0][0] - self._clock() if self._due else at_most
        return max(0.0, min(until_due, at_most))

    def _drop_if_empty(self, key: str, entry: _Entry[J]) -> None:
        if entry.waiting is None and not entry.running:
            del self._entries[key]
            self._changed.notify_all()

    def _has_worker(self, for_drain: bool = False) -> bool:
        """Tell whether somebody will do what waits, having started a thread where one may be."""
        if not self._workers:
            return not for_drain
        if len(self._threads) < self._workers and not self._free:
            self._start()
        return bool(self._threads)

    def _start(self) -> None:
        thread = threading.Thread(
            target=lambda: Context().run(self._be_worker, thread),
            name="django_replicas sessions",
            daemon=True,
        )
        self._threads.add(thread)
        self._free.add(thread)
        try:
            thread.start()
        except RuntimeError:  # The interpreter is ending, or the system has no thread left.
            self._discard(thread)

    def _discard(self, thread: threading.Thread) -> None:
        self._threads.discard(thread)
        self._free.discard(thread)

    # Without it

    def _be_worker(self, thread: threading.Thread) -> None:
        try:
            self._work(thread)
        finally:
            # Something may have ended it in the midst of its work.
            with self._changed:
                self._discard(thread)
                if self._entries:
                    self._has_worker()
                self._changed.notify_all()

    def _work(self, thread: threading.Thread) -> None:
        has_connections = False
        while True:
            with self._changed:
                taken = self._take()
                if taken is None and not has_connections:
                    # Only here: it may hang also where it closes connections or tells of a failure.
                    self._free.add(thread)
                    self._wait(self._changed, self._seconds_to_wait(self._idle))
                    taken = self._take()
                    if taken is None and not self._entries:
                        self._discard(thread)
                        return
            if taken is not None:
                self._do(*taken)
            elif has_connections:
                self._close()
            has_connections = taken is not None

    def _do(self, key: str, entry: _Entry[J], job: J) -> None:
        failure: BaseException | None = None
        try:
            job()
        except BaseException as error:  # Whatever a database, a cache or a listener raises.
            failure = error
            self._close()
        given_up = self._settle(key, entry, job, failure)
        if failure is not None:
            self._tell(job, failure, given_up)
            if not isinstance(failure, Exception):  # It is meant for the thread, too.
                raise failure

    def _tell(self, job: J, failure: BaseException, given_up: bool) -> None:
        try:
            job.failed(failure, given_up=given_up)
        except Exception:
            logger.exception("A job could not be told that it failed.")

    def _close(self) -> None:
        try:
            self._at_rest()
        except Exception:
            logger.exception("A connection could not be closed.")

    def _settle(self, key: str, entry: _Entry[J], job: J, failure: BaseException | None) -> bool:
        """Have what failed tried again, and what came meanwhile done; tell what is given up."""
        now = self._clock()
        with self._changed:
            entry.running = False
            if failure is None:
                self.counts["done"] += 1
                entry.failures, entry.failing_since = 0, None
                pause, given_up = 0.0, False
            else:
                pause, given_up = self._pause(entry), self._is_given_up(entry, now)
                self.counts["given up" if given_up else "retried"] += 1
                if given_up:
                    entry.failures, entry.failing_since = 0, None
                else:
                    entry.waiting = job if entry.waiting is None else entry.waiting.after(job)
            if entry.waiting is not None:
                self._make_due(key, entry, now + pause)
            self._drop_if_empty(key, entry)
        return given_up

    def _pause(self, entry: _Entry[J]) -> float:
        pause = min(self._longest, self._shortest * 2.0**entry.failures)
        entry.failures = min(entry.failures + 1, 30)
        return pause * (1 - self._chance() / 2)

    def _is_given_up(self, entry: _Entry[J], now: float) -> bool:
        since = entry.failing_since = now if entry.failing_since is None else entry.failing_since
        return now - since >= self._patience

    def _settle_in(self) -> None:
        """Have this process drain at its end; where Python did not see the fork, begin anew."""
        if self._process == os.getpid():
            return
        if self._process is not None:
            self._forget()
        self._process = os.getpid()
        atexit.register(_drain, weakref.ref(self))


SECONDS_AT_EXIT = 10.0


def _drain(reference: "weakref.ref[Queue[J]]") -> None:
    queue = reference()
    left = 0 if queue is None else queue.drain(SECONDS_AT_EXIT)
    if left:
        logger.error("The process ends with %d jobs undone.", left)


def _call(reference: "weakref.WeakMethod[Callable[[], None]]") -> None:
    method = reference()
    if method is not None:
        method()
