"""What is down, until when, and who may try it again."""

import threading
import time
from collections.abc import Callable, Sequence


class Liveness:
    """Remembers which names are down, for one process.

    A name that was marked down is left alone for *downtime* seconds of a monotonic clock. After
    that it is offered to one caller per *downtime*, who tries it and says how it went; everybody
    else goes on without it. Safe to share between threads; the lock is never held over I/O.
    """

    def __init__(self, downtime: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._downtime = downtime
        self._clock = clock
        self._retry_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def may_try(self, name: str) -> bool:
        """Tell whether the caller may use *name*, or, where it is down, is the one to try it."""
        if self.is_up(name):
            return True
        with self._lock:
            retry_at = self._retry_at.get(name)
            if retry_at is None:
                return True
            now = self._clock()
            if now < retry_at:
                return False
            self._retry_at[name] = now + self._downtime
            return True

    def is_up(self, name: str) -> bool:
        return name not in self._retry_at

    def down_for(self, name: str) -> float | None:
        """Return for how many seconds more *name* is left alone, None where it is up."""
        retry_at = self._retry_at.get(name)
        return None if retry_at is None else max(0.0, retry_at - self._clock())

    def mark_down(self, name: str) -> bool:
        """Leave *name* alone for the downtime; tell whether it was up until now."""
        with self._lock:
            was_up = self.is_up(name)
            self._retry_at[name] = self._clock() + self._downtime
            return was_up

    def mark_up(self, name: str) -> bool:
        """Let everybody use *name* again; tell whether it was down until now."""
        if self.is_up(name):
            return False
        with self._lock:
            return self._retry_at.pop(name, None) is not None

    def those_up(self, names: Sequence[str]) -> Sequence[str]:
        """Return the names that are not down, in their order."""
        return [name for name in names if name not in self._retry_at] if self._retry_at else names
