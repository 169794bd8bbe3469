"""What this process knows of positions: which epoch a leader is in, how far followers are."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from .marks import Mark
from .positions import Position


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

    *server* tells one server behind an alias from another. ``misses`` counts how often in a row a
    follower was asked for a position that it had not reached.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def has(self, alias: str, server: object, position: Position) -> bool:
        """Tell whether *server* is known to have replayed a position."""
        known = self._fresh(alias)
        return known is not None and known.server == server and known.has(position)

    def may_have(self, alias: str, position: Position) -> bool:
        """Tell whether a server behind *alias* is known to have replayed a position."""
        known = self._fresh(alias)
        return known is not None and known.has(position)

    def learn(
        self, alias: str, server: object, replayed: Position | None, sought: Position
    ) -> bool:
        """Remember what a follower says of itself; tell whether it has replayed what was sought."""
        with self._lock:
            before = self._fresh(alias)
            if before is not None and before.server == server and before.replayed is not None:
                # Another thread may have heard of more in the meantime.
                replayed = replayed and (before.replayed.merged(replayed) or replayed)
            has_it = replayed is not None and sought.is_in(replayed)
            misses = 0 if has_it else 1 + self.past_misses(alias)
            until = self._clock() + self._seconds
            self._known[alias] = _Known(server, replayed, misses, until)
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

    def _fresh(self, alias: str) -> "_Known | None":
        known = self._known.get(alias)
        return known if known is not None and self._clock() < known.until else None


class _Known(NamedTuple):
    server: object
    replayed: Position | None
    misses: int
    until: float

    def has(self, position: Position) -> bool:
        return self.replayed is not None and position.is_in(self.replayed)


epochs = Epochs()
