"""Marks in a cache, where all devices of a client find them."""

import hashlib
import logging
import math
from functools import cache

from django.contrib.auth.signals import user_logged_out
from django.core.cache import BaseCache
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_replicas.clients import (
    can_tell_client,
    client_key,
    client_key_that_came,
    has_new_session,
)
from django_replicas.conf import SETTINGS, get_config, get_sound_config
from django_replicas.liveness import Liveness
from django_replicas.marks import Marks, UnknownMarks, merge
from django_replicas.scopes import current_unit
from django_replicas.shared_caches import DOWNTIME, SharedCache
from django_replicas.units import lasting_for_all

from .cookie import CookieStore
from .growing import GrowingMarks

logger = logging.getLogger("django_replicas")


class CacheStore:
    """Keeps marks in the cache that ``MARK_CACHE`` names, by ``MARK_KEY``.

    A response has the cookie as well where the cache did not keep its marks, the client has no key,
    or its session is new, so that it may yet come with the former. Marks that the cache cannot be
    asked for send their client to the leader.
    """

    def __init__(self) -> None:
        self._cookie = CookieStore()

    def load(self, request: HttpRequest) -> Marks:
        if not can_tell_client(request):
            return UnknownMarks(lasting_for_all())
        in_cookie, key = self._cookie.load(request), client_key_that_came(request)
        return in_cookie if key is None else merge(in_cookie, _read(key))

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        if not marks:
            return
        key = client_key(request)
        is_kept = key is not None and _is_kept(key, marks)
        if not is_kept or has_new_session(request):
            self._cookie.save(request, response, marks)


def _read(key: str) -> Marks:
    read = _cache().attempt(lambda cache: _marks_of(key, cache).read())
    return lasting_for_all() if read is None else read


def _is_kept(key: str, marks: Marks) -> bool:
    is_kept = _cache().attempt(lambda cache: _marks_of(key, cache).add(marks))
    if is_kept:
        _keeping.mark_up("")
    elif is_kept is not None and _keeping.mark_down(""):
        logger.warning(
            "The cache %r does not keep marks, so that cookies carry them: see MARK_CACHE in the "
            "documentation.",
            get_config().mark_cache,
        )
    return bool(is_kept)


def _marks_of(key: str, cache: BaseCache) -> GrowingMarks:
    # Hashed, because a session key opens the session and a cache shows its keys.
    hashed = hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()
    sets = get_config().topology.sets
    longest = max((max(each.mark_seconds, each.pin_seconds) for each in sets), default=0)
    return GrowingMarks(cache, f"django_replicas.marks.{hashed}", math.ceil(longest) + 1)


@cache
def _cache_named(alias: str) -> SharedCache:
    return SharedCache(alias, "users whose marks it keeps read the leader")


def _cache() -> SharedCache:
    return _cache_named(get_config().mark_cache)


_keeping = Liveness(DOWNTIME)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {*SETTINGS, "CACHES"}:
        _cache_named.cache_clear()
        _keeping.mark_up("")


def _load_before_log_out(**kwargs: object) -> None:
    """Have the unit's marks loaded while its session still tells whose they are."""
    unit, config = current_unit(), get_sound_config()
    if unit is not None and (config.mark_store, config.mark_key) == ("cache", "user"):
        _ = unit.marks


user_logged_out.connect(_load_before_log_out, dispatch_uid="django_replicas.stores.cache")
setting_changed.connect(_forget, dispatch_uid="django_replicas.stores.cache")
