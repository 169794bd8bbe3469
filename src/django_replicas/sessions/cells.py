"""What the cache holds of one session, in three cells.

The data, with its version; a tombstone, while the session must not come back; and a receipt, the
version that the database is known to have. Each cell has one kind of writer, because Django's
caches cannot compare and set: saves put the data, log-outs the tombstone, writers of the database
the receipt. Data without its receipt is unwritten.
"""

import logging
from typing import Any, NamedTuple

from django.conf import settings
from django.core.cache import BaseCache

from .receipts import receipts

logger = logging.getLogger("django.contrib.sessions")

# Short, because some clients look at every letter to find the server of a key.
PREFIX = "replicas:"
DAY = 24 * 60 * 60


class Kept(NamedTuple):
    """The data of a session as the cache holds it.

    ``born`` is the version with which the session began, as long as nobody has seen it in the
    database, else 0. ``refill`` tells that it came from the database and was not saved since.
    """

    data: dict[str, Any]
    version: int
    born: int = 0
    refill: bool = False

    def packed(self) -> list[Any]:
        # Plain values, which every cache can hold and every version of this package can read.
        return [self.version, self.born, self.refill, self.data]


class Cells(NamedTuple):
    """What was found of one session."""

    kept: Kept | None = None
    is_dead: bool = False
    receipt: int = 0

    @property
    def is_unwritten(self) -> bool:
        kept = self.kept
        return kept is not None and not kept.refill and kept.version != self.receipt

    @property
    def born(self) -> int:
        """Return the version with which the session began, 0 if the database may have it."""
        return 0 if self.kept is None or self.receipt else self.kept.born


class CacheFailed(Exception):
    """The cache did not take what it was given, without saying why."""


class Shelf:
    """Reads and writes the cells of sessions; what the cache raises is raised."""

    def __init__(self, cache: BaseCache, prefix: str = PREFIX) -> None:
        self._cache, self._prefix = cache, prefix

    def data_key(self, key: str) -> str:
        return f"{self._prefix}{key}"

    def tombstone_key(self, key: str) -> str:
        return f"-{self._prefix}{key}"

    def receipt_key(self, key: str) -> str:
        return f"+{self._prefix}{key}"

    def read(self, key: str, *, trusting: bool = False, tombstone: bool = True) -> Cells:
        """Return the cells, asked for in one call; data that nobody can read is removed.

        *Trusting* is whoever can do with the receipt that this process saw last, if it saw one.
        The *tombstone* need not be asked for by whoever does so once the data is put.
        """
        data, dead = self.data_key(key), self.tombstone_key(key)
        known = receipts.known(data) if trusting else 0
        asked = [data, dead] if tombstone else [data]
        if not known:
            asked.append(self.receipt_key(key))
        try:
            found = self._cache.get_many(asked)
        except Exception:
            found = self._read_apart(data, [dead, self.receipt_key(key)])
        kept = unpacked(found.get(data))
        if kept is None and data in found:
            logger.warning("The cache held something else than a session; it is read anew.")
            self._cache.delete(data)
        written = known or found.get(self.receipt_key(key))
        if not known and kept is not None and kept.version == written:
            receipts.note(data, written)
        return Cells(kept, dead in found, written if isinstance(written, int) else 0)

    def _read_apart(self, data: str, others: list[str]) -> dict[str, Any]:
        """Tell data that cannot be unpickled, which is removed, from a cache that fails."""
        found: dict[str, Any] = self._cache.get_many(others)
        try:
            value = self._cache.get(data)
        except Exception:
            logger.warning("The cache held a session that cannot be read.", exc_info=True)
            self._cache.delete(data)
            return found
        return found if value is None else {**found, data: value}

    def is_dead(self, key: str) -> bool:
        return self._cache.get(self.tombstone_key(key)) is not None

    def put(self, key: str, kept: Kept, seconds: float, beside: dict[str, str]) -> None:
        """Keep the session's data, and *beside* it in the same call what the ledger has to say."""
        name = self.data_key(key)
        if not self._takes({name: kept.packed(), **beside}, name, seconds):
            raise CacheFailed("The cache refused a session.")

    def add(self, key: str, kept: Kept, seconds: float) -> bool:
        """Keep the session's data unless there is some; tell whether there was none."""
        return self._cache.add(self.data_key(key), kept.packed(), seconds)

    def confirm(self, key: str, version: int, seconds: float) -> None:
        """Leave the receipt: the database has this version."""
        receipts.note(self.data_key(key), version)
        self._cache.set(self.receipt_key(key), version, seconds)

    def bury(self, key: str, seconds: float, beside: dict[str, str]) -> None:
        """Keep the session from coming back for longer than anything of it can last."""
        name = self.tombstone_key(key)
        lasting = max(seconds, settings.SESSION_COOKIE_AGE, DAY) + DAY
        if not self._takes({name: 1, **beside}, name, lasting):
            raise CacheFailed("The cache refused a tombstone.")

    def _takes(self, values: dict[str, Any], name: str, seconds: float) -> bool:
        # Django's own backends return what was refused; there are others that return nothing.
        return name not in (self._cache.set_many(values, seconds) or ())

    def prove(self, key: str) -> None:
        """Raise unless the cache takes something.

        Some clients answer for a second after a failure as if their server had nothing.
        """
        name = f"?{self._prefix}{key}"
        if not self._takes({name: 1}, name, 1):
            raise CacheFailed("The cache takes nothing.")

    def clear(self, key: str) -> None:
        """Remove the data and the receipt; a tombstone stays."""
        self._cache.delete_many([self.data_key(key), self.receipt_key(key)])


def unpacked(value: Any) -> Kept | None:
    """Return what was packed, None for anything else."""
    match value:
        case [int(version), int(born), refill, dict(data)]:
            return Kept(data, version, born, bool(refill))
    return None
