"""Work that is waited for only so long, whatever it is stuck in."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from typing import Any


class Deadline:
    """Does one piece of work in a thread of its own, for all who ask while it is being done.

    No server's own timeout ends the wait for a server that accepts connections and answers
    nothing, so nobody waits for more than *seconds*; work that is late is left behind, and the
    next caller has it begun anew. Once *most_stuck* pieces are left behind nothing more is begun
    until one of them ends.
    """

    def __init__(self, work: Callable[[], Any], most_stuck: int = 10) -> None:
        self._work = work
        self._room = threading.Semaphore(most_stuck)
        self._lock = threading.Lock()
        self._current: Future[Any] | None = None

    def begin(self) -> None:
        """Have the work begun, for who asks for its result a little later."""
        with suppress(TimeoutError):  # Nothing more may be begun; result() says so.
            self._begun()

    def result(self, seconds: float) -> Any:
        """Return what the work returns, or raise what it raises; ``TimeoutError`` if it is late."""
        future = self._begun()
        try:
            return future.result(seconds)
        finally:
            self._leave(future)

    def begin_unawaited(self) -> None:
        """Have the work done, whatever comes of it; ``TimeoutError`` if it cannot be begun."""
        self._begun().add_done_callback(self._leave)

    def _begun(self) -> "Future[Any]":
        with self._lock:
            if self._current is None:
                if not self._room.acquire(blocking=False):
                    raise TimeoutError("Too much earlier work is stuck.")
                current: Future[Any] = Future()
                # Daemons, because a thread that is stuck must not keep the process; in a context
                # of their own, because threads of free-threaded Python inherit ours.
                arguments = (self._run, current)
                thread = threading.Thread(target=Context().run, args=arguments, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # No more threads: known only when it is tried.
                    self._room.release()
                    raise TimeoutError(str(error)) from error
                self._current = current
            return self._current

    def _run(self, future: "Future[Any]") -> None:
        try:
            outcome = self._work()
        except BaseException as error:
            self._room.release()
            future.set_exception(error)
        else:
            self._room.release()
            future.set_result(outcome)

    def _leave(self, future: "Future[Any]") -> None:
        with self._lock:
            if self._current is future:
                self._current = None
