"""Who wrote which model when: in the cache, where every process sees it, for as long as the lag."""

import hashlib
import math
import time
from collections.abc import Collection, Mapping
from functools import cache, partial

from django.core.cache import BaseCache
from django.core.signals import setting_changed

from .conf import SETTINGS, get_config
from .liveness import Liveness
from .shared_caches import SharedCache

KEY_PREFIX = "django_replicas.recency."


def key_of(session_key: str, table: str) -> str:
    """Return the cache key under which a session's writes to *table* are noted.

    Hashed, because a session key opens the session and a cache shows its keys.
    """
    text = f"{session_key}\0{table}".encode(errors="backslashreplace")
    return f"{KEY_PREFIX}{hashlib.sha256(text).hexdigest()}"


class Recency:
    """Notes in one of ``CACHES``, as this process reaches it; safe to share between threads.

    A cache that fails is logged once and left alone for a while. What it cannot be asked, it may
    have noted.
    """

    def __init__(self, alias: str, liveness: Liveness | None = None) -> None:
        self._cache = SharedCache(alias, "sessions read the leader", liveness)

    def is_noted(self, key: str) -> bool:
        """Tell whether a write is noted under *key*, or may be."""
        found = self.noted([key])
        return found is None or bool(found)

    def noted(self, keys: Collection[str]) -> frozenset[str] | None:
        """Return those of the keys with a write noted under them, None where nobody knows."""
        return self._cache.attempt(lambda cache: frozenset(cache.get_many(keys)))

    def note(self, seconds: Mapping[str, float]) -> float:
        """Note a write under each key, to be seen for so many seconds at least; return the moment.

        Whether it worked is known when it is read back.
        """
        now = time.time()
        for lag in set(seconds.values()):
            notes = {key: now for key, value in seconds.items() if value == lag}
            # A cache counts whole seconds, and memcached's clock may be one behind.
            self._cache.attempt(partial(_set, notes, math.ceil(lag) + 1))
        return now

    def kept(self, keys: Collection[str], moment: float) -> frozenset[str]:
        """Return those of the keys with a note from *moment* or later, read back in one call.

        A cache in the database swallows its errors, the dummy keeps nothing, and a full one drops
        what it has no room for: none of them says so.
        """
        found = self._cache.attempt(lambda cache: cache.get_many(keys)) or {}
        return frozenset(key for key, note in found.items() if _is_since(note, moment))


def _is_since(note: object, moment: float) -> bool:
    return isinstance(note, float) and note >= moment


def _set(notes: dict[str, float], timeout: int, cache: BaseCache) -> None:
    cache.set_many(notes, timeout)


@cache
def _recency(alias: str) -> Recency:
    return Recency(alias)


def get_recency() -> Recency:
    """Return the notes in the cache that ``RECENCY_CACHE`` names."""
    return _recency(get_config().recency_cache)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {*SETTINGS, "CACHES"}:
        _recency.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_replicas.recency")
