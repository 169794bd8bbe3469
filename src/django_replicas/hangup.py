"""A question to a server that is waited for only so long, on a connection that others use too.

No timeout of a server ends the wait for one that is frozen or cut off, and few drivers have one of
their own. So whoever waits too long is hung up on: the connection's socket is shut down under the
driver, which then raises what it raises for a connection that was lost.
"""

import heapq
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from itertools import count

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper


class Watch:
    """One thread that shuts down the sockets that are waited for too long; shared by all others.

    It is started when it is first needed, and again in a process that was forked, also where
    Python did not see the fork.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = count()
        self._begin()
        if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._waited_for: dict[int, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._wakes_at: float | None = None
        self._is_running = False

    @contextmanager
    def at_most(self, seconds: float, file: int) -> Iterator[None]:
        """Shut down the socket *file* once the block has lasted so many seconds.

        Raises ``OperationalError`` where no thread can be started that would do it.
        """
        number = next(self._numbers)
        self._note(number, file, self._clock() + seconds)
        try:
            yield
        finally:
            # Under the lock, so that no other connection is given the number of a closed socket
            # while the thread is about to shut it down.
            with self._changed:
                self._waited_for.pop(number, None)

    def _note(self, number: int, file: int, deadline: float) -> None:
        if self._process != os.getpid():
            self._begin()
        with self._changed:
            self._waited_for[number] = file
            heapq.heappush(self._deadlines, (deadline, number))
            if not self._is_running:
                self._start(number)
            elif self._wakes_at is None or deadline < self._wakes_at:
                self._changed.notify()

    def _start(self, number: int) -> None:
        # In a context of its own: threads of free-threaded Python inherit ours.
        thread = threading.Thread(target=Context().run, args=(self._watch,), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # No more threads, or the interpreter is ending.
            del self._waited_for[number]
            raise OperationalError("No thread can be started to end the wait.") from error
        self._is_running = True

    def _watch(self) -> None:
        with self._changed:
            while True:
                self._shut_down_what_is_late()
                self._wakes_at = self._deadlines[0][0] if self._deadlines else None
                rest = None if self._wakes_at is None else self._wakes_at - self._clock()
                self._changed.wait(rest)

    def _shut_down_what_is_late(self) -> None:
        while self._deadlines:
            deadline, number = self._deadlines[0]
            if number in self._waited_for and deadline > self._clock():
                return
            heapq.heappop(self._deadlines)
            file = self._waited_for.pop(number, None)
            if file is not None:
                _shut_down(file)


def _shut_down(file: int) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(file)) as shared:
        shared.shutdown(socket.SHUT_RDWR)


_watch = Watch()


@contextmanager
def hung_up_after(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Let the block wait for the server of an open connection for so many seconds, no longer.

    Then the driver raises what it raises for a lost connection. Drivers that do not tell their
    socket wait as long as they do by themselves: psycopg, mysqlclient and PyMySQL tell it.
    """
    file = _file_of(connection.connection)
    if file is None:
        yield
        return
    with _watch.at_most(seconds, file):
        yield


def _file_of(driver: object) -> int | None:
    # PyMySQL keeps its socket to itself, and has no other way to end a wait from outside.
    fileno = getattr(driver, "fileno", None) or getattr(
        getattr(driver, "_sock", None), "fileno", None
    )
    try:
        return None if fileno is None else fileno()
    except Exception:  # It is closed already, which the block will hear for itself.
        return None
