"""What this process knows of positions: which epoch a leader is in, how far followers are."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from .marks import Mark
from .positions import Position, Told


class Epochs:
    """Which epoch each leader is in, as the mark that was made last tells; shared by threads.

    Nobody is asked for it: whoever reads after a failover met a mark from after it, or has none to
    compare.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Mark] = {}

    def forget(self) -> None:
        """Know nothing of any leader any more."""
        self._latest.clear()

    def comparable(self, alias: str, mark: Mark) -> Mark:
        """Return the mark as it counts now: without a position that is of an earlier epoch."""
        if mark.position is None:
            return mark
        latest = self._latest.get(alias)
        if latest is None or latest.position is None or mark.fallback >= latest.fallback:
            self._latest[alias] = mark
            return mark
        return mark if latest.position.epoch == mark.position.epoch else mark.without_position()


class Replayed:
    """How far each follower was known to be, for *seconds* of a monotonic clock; shared by threads.

    What is known holds for connections that were open before it was asked for: their server would
    have taken them along, had it gone back to where it was some time ago, as a PostgreSQL standby
    does that crashed. So each connection is asked once itself. ``misses`` counts how often in a row
    a follower was asked for a position that it had not reached.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._met: WeakKeyDictionary[object, _Met] = WeakKeyDictionary()

    def now(self) -> float:
        """Return the moment for ``learn``, to be taken before a follower is asked."""
        return self._clock()

    def may_have(self, alias: str, position: Position) -> bool:
        """Tell whether a server behind *alias* is known to have replayed a position."""
        known = self._fresh(alias)
        return known is not None and known.has(position)

    def has(self, alias: str, driver: object, position: Position) -> bool:
        """Tell whether the server behind a driver's connection is known to have a position."""
        met, known = self._met.get(driver), self._fresh(alias)
        return met is not None and known is not None and known.is_of(met) and known.has(position)

    def learn(self, alias: str, driver: object, told: Told, asked: float, sought: Position) -> bool:
        """Remember what was told on a driver's connection; tell whether what was sought is in it.

        It was *asked* at that moment.
        """
        with self._lock:
            before, met = self._fresh(alias), self._meet(driver, told.server, asked)
            known = _Known(told.server, told.replayed, asked, self._clock() + self._seconds)
            if before is not None and before.is_of(met):
                known = known.joined(before)
            has_it = known.has(sought)
            misses = 0 if has_it else 1 + self.past_misses(alias)
            self._known[alias] = known._replace(misses=misses)
        return has_it

    def misses(self, alias: str) -> int:
        known = self._fresh(alias)
        return 0 if known is None else known.misses

    def past_misses(self, alias: str) -> int:
        """Return the same for however long ago it was."""
        known = self._known.get(alias)
        return 0 if known is None else known.misses

    def forget(self, alias: str) -> None:
        """Know nothing of a follower any more."""
        with self._lock:
            self._known.pop(alias, None)

    def _meet(self, driver: object, server: object, asked: float) -> "_Met":
        met = self._met.get(driver)
        if met is None or met.server != server:
            met = self._met[driver] = _Met(server, asked)
        return met

    def _fresh(self, alias: str) -> "_Known | None":
        known = self._known.get(alias)
        return known if known is not None and self._clock() < known.until else None


class _Met(NamedTuple):
    """A server as one connection knows it: who it is, and when it said so first."""

    server: object
    since: float


class _Known(NamedTuple):
    server: object
    replayed: Position | None
    asked: float
    until: float
    misses: int = 0

    def is_of(self, met: _Met) -> bool:
        return self.server == met.server and self.asked >= met.since

    def has(self, position: Position) -> bool:
        return self.replayed is not None and position.is_in(self.replayed)

    def joined(self, other: "_Known") -> "_Known":
        """Return it with what another thread has heard in the meantime."""
        if self.replayed is None or other.replayed is None:
            return self
        both = self.replayed.merged(other.replayed)
        if both is None or both == self.replayed:
            return self
        return self._replace(replayed=both, asked=min(self.asked, other.asked))


epochs = Epochs()
